# SPDX-License-Identifier: Apache-2.0
"""Whether music is what its prompt states: instruments, tempo, meter, notes.

  musiclm evaluate adherence --generated out --output report
  musiclm evaluate adherence --generated theirs --prompts prompts.jsonl \\
    --output report

--generated is any folder of audio. What each file was asked to be stands in its
generate.json (made with `musiclm generate --prompts`) or in --prompts, lines of
{"file": …, "prompt": …, "facts": {"families": […], "tempo_bpm": …, "meter": …}}.
It may also be a prepared corpus, whose facts are true: what is found there is the
most that these tools can find. Writes adherence.md (tables) and adherence.json
(every clip's figures); prints the tables.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.audio.io import Recording
  from musiclm_jax.data.corpus import AudioCorpus
  from musiclm_jax.evaluation.prompts import Prompt


def add_arguments(parser: flags.Parser) -> None:
  add = parser.add_argument
  add('--generated', required=True, help='folder of audio, or a corpus')
  add('--prompts', metavar='FILE', help='what each file was asked to be')
  add('--split', default='test', help='of a corpus')
  add('--num_clips', type=int, default=60, help='of a corpus')
  add('--seconds', type=int, default=15, help='of the middle of its pieces')
  add('--output', required=True, help='folder to write to')


def run(options: argparse.Namespace) -> None:
  import rich.progress

  from musiclm_jax.audio import io
  from musiclm_jax.data import corpus as corpora
  from musiclm_jax.evaluation import prompts as prompt_sets
  from musiclm_jax.evaluation.adherence import evaluate, report
  from musiclm_jax.evaluation.embedders import musicnn

  folder = pathlib.Path(options.generated).expanduser()
  about = f'{folder}, mixed to one channel'
  if (folder / corpora.CORPUS_FILE).exists():
    corpus = corpora.AudioCorpus(folder)
    numbers = choose(corpus, options=options)
    prompts = [facts_of(corpus, n, seconds=options.seconds) for n in numbers]
    recordings = middles(corpus, numbers, seconds=options.seconds)
    about += (
      f'; split {options.split}, the middle {options.seconds} s of pieces'
    )
  else:
    prompts = prompt_sets.of_folder(folder, prompt_file=options.prompts)
    recordings = (io.read(folder / prompt.file) for prompt in prompts)
  ears = evaluate.Ears(prompts, load_classifier=musicnn.load)
  heard = [
    ears.listen(recording.waveform, sample_rate_hz=recording.sample_rate_hz)
    for recording in rich.progress.track(
      recordings, total=len(prompts), description='Listening'
    )
  ]
  found = evaluate.evaluate(prompts, heard)
  output = pathlib.Path(options.output)
  report.write(found, directory=output, about=f'{about}.')
  print(report.to_markdown(found, about=f'{about}.'))
  print(f'Written to {output}.')


def choose(corpus: AudioCorpus, *, options: argparse.Namespace) -> list[int]:
  """Clips spread evenly over the split."""
  found = corpus.clips(options.split)
  number = options.num_clips
  if not 2 <= number <= len(found):
    raise ValueError(
      f'{number} clips are wanted, 2 or more; split {options.split!r} of'
      f' {options.generated} has {len(found)}. Change --num_clips.'
    )
  return [int(found[n * len(found) // number]) for n in range(number)]


def facts_of(corpus: AudioCorpus, clip: int, *, seconds: int) -> Prompt:
  """A clip's caption and facts, its notes those of the middle alone."""
  from musiclm_jax.evaluation.adherence.notes import Notes
  from musiclm_jax.evaluation.prompts import Prompt

  what = corpus.describe(clip)
  facts = dict(what.facts)
  start, length = _middle(corpus, clip, seconds=seconds)
  if facts.get('notes'):
    rate_hz = corpus.sample_rate_hz
    inside = Notes.of_facts(
      facts['notes'], start=start / rate_hz, seconds=length / rate_hz
    )
    facts['notes'] = vars(inside)
  return Prompt(text=(*what.captions, '—')[0], facts=facts)


def middles(
  corpus: AudioCorpus, clips: list[int], *, seconds: int
) -> Iterator[Recording]:
  """The middle of each piece, in [-1, 1]; all of it if it is shorter."""
  import numpy as np

  from musiclm_jax.audio.io import Recording
  from musiclm_jax.data.corpus import FULL_SCALE

  for clip in clips:
    start, num_samples = _middle(corpus, clip, seconds=seconds)
    samples = corpus.read(clip, start=start, num_samples=num_samples)
    yield Recording(
      waveform=samples.astype(np.float32) / np.float32(FULL_SCALE),
      sample_rate_hz=corpus.sample_rate_hz,
    )


def _middle(corpus: AudioCorpus, clip: int, *, seconds: int) -> tuple[int, int]:
  """Where it starts and how long it is, in samples."""
  length = int(corpus.index['num_samples'][clip])
  num_samples = min(seconds * corpus.sample_rate_hz, length)
  return (length - num_samples) // 2, num_samples
