# SPDX-License-Identifier: Apache-2.0
"""A joint space of music and text: retrieval and zero-shot tags, beside chance.

  musiclm evaluate mulan --model runs/conditioner --corpus runs/tunebook \\
    --split validation,test --output runs/conditioner/evaluation

Takes the towers ('mulan') or the conditioner, whose codes are then measured
too, and compares the same towers untrained. Writes mulan.md (tables) and
mulan.json (every figure); prints the tables. A clip is the middle of a piece.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from musiclm_jax.cli import flags
from musiclm_jax.cli.evaluations import _clips

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  import numpy as np

  from musiclm_jax.conditioning.base import JointSpace
  from musiclm_jax.data.corpus import AudioCorpus
  from musiclm_jax.evaluation import mulan as evaluation


def add_arguments(parser: flags.Parser) -> None:
  parser.add_argument('--model', required=True, help='folder of the bundle')
  parser.add_argument('--corpus', required=True, help='a prepared corpus')
  parser.add_argument(
    '--split',
    default='test',
    type=lambda names: names.split(','),
    help='one, or several, such as validation,test',
  )
  parser.add_argument(
    '--num_clips', type=int, help='of all splits together; all if left out'
  )
  parser.add_argument('--seconds', type=int, default=10, help='of each clip')
  parser.add_argument(
    '--tags',
    default='instruments,families',
    type=lambda names: names.split(','),
    help='facts of a clip that are lists of tags',
  )
  parser.add_argument('--output', required=True, help='folder to write to')


def run(options: argparse.Namespace) -> None:
  import numpy as np
  import rich.progress

  from musiclm_jax.conditioning import base, mulan
  from musiclm_jax.data import corpus as corpora
  from musiclm_jax.evaluation import code_agreement, mulan_report
  from musiclm_jax.evaluation import mulan as evaluation

  space = mulan.load_space(options.model)
  untrained = _untrained(options.model)
  corpus = corpora.AudioCorpus(options.corpus)
  kinds = caption_kinds(corpus.info.source)
  clips, num_without = described_clips(corpus, kinds=kinds, options=options)
  windows, untrained_audio = [], []
  for clip, _ in rich.progress.track(clips, description='Embedding'):
    waveform = _clips.middle(corpus, clip, seconds=options.seconds)
    rate_hz = corpus.sample_rate_hz
    windows.append(space.embed_windows(waveform, sample_rate_hz=rate_hz))
    untrained_audio.append(
      untrained.embed_audio(waveform[None], sample_rate_hz=rate_hz)[0]
    )
  known = [what for _, what in clips]
  audio = np.stack([base.mean_direction(clip) for clip in windows])
  trained = _system('trained', space, audio, known)
  systems, codes = [trained], None
  if isinstance(space, base.Conditioner):
    systems += through_codes(trained, space)
    codes = code_agreement.Codes(
      windows=space.quantize(np.concatenate(windows))[:, 0],
      clips=space.quantize(trained.audio)[:, 0],
      texts=tuple(space.quantize(texts)[:, 0] for texts in trained.texts),
      codebook_size=space.stream.codebook_size,
    )
  systems.append(
    _system('untrained', untrained, np.stack(untrained_audio), known)
  )
  found = evaluation.evaluate(systems, known, kinds=kinds, codes=codes)
  about = (
    f'{options.model} on {options.corpus}, split'
    f' {" and ".join(options.split)}, clips of {options.seconds} s'
    f' ({num_without} left out: a caption or a fact is missing).'
  )
  output = pathlib.Path(options.output)
  mulan_report.write(found, directory=output, about=about)
  print(mulan_report.to_markdown(found, about=about))
  print(f'Written to {output}.')


def caption_kinds(source: str) -> tuple[evaluation.CaptionKind, ...]:
  """The captions of a data set's clips, and what each of them states.

  Of a data set that does not say, the first caption is taken, and captions are
  equal if their texts are.
  """
  from musiclm_jax.data.tunebook import captions
  from musiclm_jax.evaluation import mulan as evaluation

  stated = {'tunebook': captions.STATED_FACTS}.get(source)
  if stated is None:
    return (evaluation.CaptionKind(name='first'),)
  return tuple(
    evaluation.CaptionKind(name=name, place=place, facts=facts)
    for place, (name, facts) in enumerate(stated.items())
  )


def described_clips(
  corpus: AudioCorpus,
  *,
  kinds: Sequence[evaluation.CaptionKind],
  options: argparse.Namespace,
) -> tuple[list[tuple[Any, evaluation.HeldOutClip]], int]:
  """Clips with what is known of them, spread evenly, and how many lack it."""
  from musiclm_jax.evaluation import mulan as evaluation

  found, num_without = [], 0
  for split in options.split:
    for clip in corpus.clips(split):
      description = corpus.describe(clip)
      known = evaluation.held_out_clip(
        tune=description.group,
        captions=description.captions,
        facts=description.facts,
        kinds=kinds,
        tag_facts=options.tags,
      )
      if known is None:
        num_without += 1
      else:
        found.append((clip, known))
  number = len(found) if options.num_clips is None else options.num_clips
  if not 2 <= number <= len(found):
    raise ValueError(
      f'{number} clips are wanted, 2 or more; split {", ".join(options.split)}'
      f' has {len(found)} with captions, and {num_without} without. Change'
      ' --num_clips or --split.'
    )
  return [found[n * len(found) // number] for n in range(number)], num_without


def through_codes(
  trained: evaluation.System, space: Any
) -> Iterator[evaluation.System]:
  """The trained space as its codes keep it."""
  import dataclasses

  def coded(embeddings: np.ndarray) -> np.ndarray:
    return space.dequantize(space.quantize(embeddings))

  audio = dataclasses.replace(
    trained, name='audio through codes', audio=coded(trained.audio)
  )
  yield audio
  yield dataclasses.replace(
    audio,
    name='both through codes',
    texts=tuple(map(coded, trained.texts)),
    tags={fact: coded(tags) for fact, tags in trained.tags.items()},
  )


def _system(
  name: str,
  space: JointSpace,
  audio: np.ndarray,
  clips: Sequence[evaluation.HeldOutClip],
) -> evaluation.System:
  """Embeds captions and tags beside the audio."""
  from musiclm_jax.evaluation import mulan as evaluation

  return evaluation.System(
    name=name,
    audio=audio,
    texts=tuple(
      space.embed_text(texts)
      for texts in zip(*(clip.captions for clip in clips))
    ),
    tags={
      fact: space.embed_text(names)
      for fact, (names, _) in evaluation.tags_to_test(clips).items()
    },
  )


def _untrained(directory: str) -> JointSpace:
  """The towers of the same config with fresh weights."""
  import jax
  from flax import linen as nn

  from musiclm_jax.checkpoints import bundle
  from musiclm_jax.conditioning import base, mulan

  found = bundle.load(directory)
  towers = found.config
  if found.kind == base.CONDITIONER:
    towers = towers.towers
  weights = nn.unbox(towers.init(jax.random.key(0)))
  return mulan.MuLanSpace(towers.make_towers(weights))
