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
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags
from musiclm_jax.cli.evaluations import _clips

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.data.corpus import AudioCorpus
  from musiclm_jax.evaluation.prompts import Prompt


def add_arguments(parser: flags.Parser) -> None:
  add = parser.add_argument
  add('--generated', required=True, help='folder of audio, or a corpus')
  add('--prompts', metavar='FILE', help='what each file was asked to be')
  _clips.add_corpus_arguments(parser)
  parser.set_defaults(num_clips=60, seconds=15)
  add('--output', required=True, help='folder to write to')


def run(options: argparse.Namespace) -> None:
  import rich.progress

  from musiclm_jax.data import corpus as corpora
  from musiclm_jax.evaluation import clips as clips_of
  from musiclm_jax.evaluation import prompts as prompt_sets
  from musiclm_jax.evaluation.adherence import evaluate, report
  from musiclm_jax.evaluation.embedders import musicnn

  folder = pathlib.Path(options.generated).expanduser()
  about = f'{folder}, mixed to one channel'
  if (folder / corpora.CORPUS_FILE).exists():
    corpus = corpora.AudioCorpus(folder)
    prompts = [
      facts_of(corpus, number, seconds=options.seconds)
      for _, number in _clips.choose(corpus, directory=folder, options=options)
    ]
    side = _clips.of_corpus(folder, options=options)
    clips, about = side.clips, f'{side.source}, mixed to one channel'
  else:
    prompts = prompt_sets.of_folder(folder, prompt_file=options.prompts)
    clips = (
      clips_of.read_file(folder / prompt.file, name=prompt.file)
      for prompt in prompts
    )
  ears = evaluate.Ears(prompts, load_classifier=musicnn.load)
  heard, bad = {}, []
  for number, clip in enumerate(
    rich.progress.track(clips, total=len(prompts), description='Listening')
  ):
    if isinstance(clip, clips_of.BadClip):
      bad.append(f'{clip.name}: {clip.reason}')
      continue
    rate_hz = clip.sample_rate_hz
    heard[number] = ears.listen(clip.waveform, sample_rate_hz=rate_hz)
  if bad:
    told = '; '.join(bad).rstrip('.')
    about += (
      f'. **Warning:** {len(bad)} of {len(prompts)} files could not be read and'
      f' are in no figure: {told}'
    )
  if not heard:
    raise ValueError(f'No file of {folder} could be read; {bad[0]}')
  found = evaluate.evaluate([prompts[n] for n in heard], heard.values())
  output = pathlib.Path(options.output)
  report.write(found, directory=output, about=f'{about}.')
  print(report.to_markdown(found, about=f'{about}.'))
  print(f'Written to {output}.')


def facts_of(corpus: AudioCorpus, clip: int, *, seconds: int) -> Prompt:
  """A clip's caption and facts, its notes those of the middle alone."""
  from musiclm_jax.evaluation.adherence.notes import Notes
  from musiclm_jax.evaluation.prompts import Prompt

  what = corpus.describe(clip)
  facts = dict(what.facts)
  start, length = _clips.middle_span(corpus, clip, seconds=seconds)
  if facts.get('notes'):
    rate_hz = corpus.sample_rate_hz
    inside = Notes.of_facts(
      facts['notes'], start=start / rate_hz, seconds=length / rate_hz
    )
    facts['notes'] = vars(inside)
  return Prompt(text=(*what.captions, '—')[0], facts=facts)
