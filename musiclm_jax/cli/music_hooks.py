# SPDX-License-Identifier: Apache-2.0
"""Hooks that hear music while a model is trained, from paths.

Gin files of `runs/` name these functions; they read what a hook needs from disk
before the first step, so that what is missing is said at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from musiclm_jax.checkpoints import bundle
from musiclm_jax.cli.evaluations import _clips
from musiclm_jax.cli.evaluations import codec as codec_verb
from musiclm_jax.codec.base import load_codec
from musiclm_jax.conditioning.base import load_conditioner
from musiclm_jax.data import corpus as corpora
from musiclm_jax.evaluation import codec as codec_evaluation
from musiclm_jax.evaluation import codec_hook, music, music_hook
from musiclm_jax.evaluation import prompts as prompt_files
from musiclm_jax.evaluation.embedders import loading
from musiclm_jax.evaluation.prompts import Prompt
from musiclm_jax.inference.request import Request
from musiclm_jax.inference.settings import SamplingConfig


def evaluate_music(
  *,
  corpus: str,
  codec: str,
  conditioner: str | None,
  stages: Sequence[str],
  every_steps: int,
  split: str = 'validation',
  num_references: int = 256,
  num_prompts: int = 8,
  prompts: str | None = None,
  seconds: int = 10,
  seed: int = 0,
  embedders: Sequence[str] = ('musicnn',),
  sampling: SamplingConfig | None = None,
  num_audio_examples: int = 4,
) -> music_hook.EvaluateMusic:
  """Music of held-out captions, or of none, by the stage that is trained.

  Args:
    corpus: A prepared corpus; the middles of its pieces are the reference.
    codec: The folder of its bundle.
    conditioner: The folder of its bundle; None of an AudioLM, which makes
      music without prompts.
    stages: The folders of the other two.
    every_steps: When; also at the end of the run.
    split: Of the corpus.
    num_references: Pieces of the reference, spread evenly over the split; all
      of a smaller one. They are heard before the first step.
    num_prompts: Pieces to make: of the first caption of so many of these, each
      paired with its piece. Without a conditioner, of so many seeds.
    prompts: A file of `musiclm prompts` in place of captions; prompts spread
      evenly over it are taken.
    seconds: Length of a piece, and of each of the reference.
    seed: Of the first piece; the others have the numbers after it.
    embedders: Names, with a path where weights come with no package, such as
      'vggish=vggish.pth'; 'mulan' and 'codec' are those of the model.
    sampling: How the stages draw.
    num_audio_examples: Pieces whose audio is logged.
  """
  of_model = {'mulan': conditioner, 'codec': codec}
  named = [spec.partition('=')[::2] for spec in embedders]
  ears = [loading.load(n, path or of_model.get(n)) for n, path in named]
  options = argparse.Namespace(
    split=[split],
    seconds=seconds,
    num_clips=min(
      num_references, len(corpora.AudioCorpus(corpus).clips(split))
    ),
  )
  asked, wanted = [], {'num_samples': num_prompts, 'seed': seed}
  if conditioner is not None:
    asked = _asked(corpus, prompts, number=num_prompts, options=options)
    # A caption may be there twice.
    seeds = [*range(seed, seed + num_prompts)]
    wanted = {'prompts': [prompt.text for prompt in asked], 'seed': seeds}
  elif prompts is not None:
    raise ValueError(
      f'{prompts} is given, and no conditioner that understands prompts; leave'
      ' one of them out, or give both.'
    )

  others = _others(codec=codec, conditioner=conditioner, stages=stages)
  reference = _clips.of_corpus(corpus, options=options)
  return music_hook.EvaluateMusic(
    others=others,
    prompts=asked,
    reference=music.hear(
      reference.clips, source=reference.source, embedders=ears
    ),
    embedders=ears,
    request=Request(
      seconds=seconds, sampling=sampling or SamplingConfig(), **wanted
    ),
    every_steps=every_steps,
    num_audio_examples=num_audio_examples,
  )


def evaluate_codec(
  *,
  corpus: str,
  sample_rate_hz: int,
  every_steps: int,
  split: str = 'validation',
  num_clips: int = 4,
  seconds: int = 10,
  levels: Sequence[int] = codec_evaluation.DEFAULT_LEVELS,
  metrics: Sequence[str] = ('mel_distance_db', 'si_sdr_db'),
) -> codec_hook.EvaluateCodec:
  """Copies of held-out clips by the codec that is trained.

  Args:
    corpus: A prepared corpus.
    sample_rate_hz: Of the codec.
    every_steps: When; also at the end of the run.
    split: Of the corpus.
    num_clips: The middles of so many pieces, spread evenly over the split.
    seconds: Of each.
    levels: How many levels to decode; all of them in any case.
    metrics: Of `musiclm evaluate codec`; 'visqol' takes a second a copy.
  """
  return codec_hook.EvaluateCodec(
    codec_verb.held_out_clips(
      corpora.AudioCorpus(corpus),
      split=split,
      num_clips=num_clips,
      seconds=seconds,
      sample_rate_hz=sample_rate_hz,
    ),
    every_steps=every_steps,
    levels=levels,
    metrics=codec_verb.chosen(codec_evaluation.METRICS, metrics),
  )


def _others(
  *, codec: str, conditioner: str | None, stages: Sequence[str]
) -> music_hook.Others:
  loaded = [bundle.load(folder, kind='stage') for folder in stages]
  return music_hook.Others(
    codec=load_codec(codec),
    conditioner=conditioner and load_conditioner(conditioner),
    stages={stage.config.spec.name: stage for stage in loaded},
  )


def _asked(
  corpus: str, prompts: str | None, *, number: int, options: argparse.Namespace
) -> list[Prompt]:
  """So many captions, or prompts of a file, spread evenly."""
  found = (
    _captions(corpus, options=options)
    if prompts is None
    else prompt_files.read(prompts)
  )
  if not 1 <= number <= len(found):
    raise ValueError(
      f'{number} prompts are wanted, and {prompts or corpus} has'
      f' {len(found)}; change num_prompts.'
    )
  return [found[n * len(found) // number] for n in range(number)]


def _captions(corpus: str, *, options: argparse.Namespace) -> list[Prompt]:
  """The first captions of the reference's pieces."""
  reader = corpora.AudioCorpus(corpus)
  pieces = [
    reader.describe(number)
    for _, number in _clips.choose(reader, directory=corpus, options=options)
  ]
  found = [
    Prompt(text=piece.captions[0], reference=piece.id)
    for piece in pieces
    if piece.captions
  ]
  if not found:
    raise ValueError(
      f'Split {options.split[0]!r} of {corpus} has no captions; give a file of'
      ' prompts.'
    )
  return found
