# SPDX-License-Identifier: Apache-2.0
"""Captions a folder of music: sentences that a joint space finds near it.

  musiclm caption --model runs/mulan --folder music
  musiclm caption --model runs/mulan --folder music --vocabulary sentences.txt

Writes captions.jsonl into the folder, which `musiclm data prepare
--gin_file=data/folder.gin` reads. A vocabulary has one sentence a line; without
one, sentences of the tunebook's instruments, tempi and kinds of tune are taken.
Noise2Music (Huang et al., 2023), section 3.1.
"""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  import numpy as np

  from musiclm_jax.conditioning.mulan import MuLanSpace

FACT = 'captioned_by'  # The fingerprint of the space, among a file's facts.


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm caption', description=__doc__)
  parser.add_argument('--model', required=True, help='towers or a conditioner')
  parser.add_argument('--folder', required=True, help='of audio files')
  parser.add_argument('--vocabulary', metavar='FILE', help='a sentence a line')
  parser.add_argument(
    '--candidates', type=int, default=10, help='sentences to draw from'
  )
  parser.add_argument('--captions', type=int, default=3, help='of each file')
  parser.add_argument('--seed', type=int, default=0, help='of the draws')
  options = parser.parse_args(argv)

  # Late, so that `--help` and a wrong command answer at once.
  import rich
  from rich import markup, table

  from musiclm_jax.checkpoints import bundle
  from musiclm_jax.conditioning import mulan
  from musiclm_jax.data.tasks import folder
  from musiclm_jax.tokenization import pseudo_captions

  folder.require_no_captions(options.folder)  # Before the work, not after.
  sentences = read_vocabulary(options.vocabulary)
  space = mulan.load_space(options.model)
  music, rejected = embed_folder(options.folder, space)
  chosen = pseudo_captions.candidates(
    _stack(music),
    space.embed_text(sentences),
    num_candidates=options.candidates,
  )
  drawn = pseudo_captions.draw(
    chosen,
    clip_ids=list(music),
    num_captions=options.captions,
    seed=options.seed,
  )
  path = folder.write_captions(
    options.folder,
    {file: [sentences[n] for n in row] for file, row in zip(music, drawn)},
    facts={FACT: bundle.read_model_json(options.model)['fingerprint']},
  )
  shown = table.Table('file', 'first caption')
  for file, row in list(zip(music, drawn))[:10]:
    shown.add_row(markup.escape(file), markup.escape(sentences[row[0]]))
  rich.print(shown)
  print(f'{path}: {options.captions} captions of {len(music)} files.')
  for reason, details in rejected.items():
    print(f'{len(details)} left out, {reason}: {details[0]}')


def read_vocabulary(path: str | None) -> list[str]:
  """The sentences of a file, or those of the tunebook; each once."""
  from musiclm_jax.data.tunebook import vocabulary

  if path is None:
    return list(vocabulary.sentences())
  lines = pathlib.Path(path).read_text(encoding='utf-8').splitlines()
  sentences = list(dict.fromkeys(filter(None, map(str.strip, lines))))
  if not sentences:
    raise ValueError(f'{path} has no sentences; write one a line.')
  return sentences


def embed_folder(
  directory: str, space: MuLanSpace
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
  """Every file's mean direction by path, and what was rejected by reason.

  Over windows that do not overlap, as in Noise2Music.
  """
  import rich.progress

  from musiclm_jax.conditioning import base
  from musiclm_jax.data import sources
  from musiclm_jax.data.tasks import folder

  source = folder.Folder(directory=directory)
  music, rejected = {}, collections.defaultdict(list)
  for ref in rich.progress.track(source.clips(), description='Embedding'):
    try:
      clip = source.load(ref)
    except sources.RejectedClip as error:
      rejected[error.reason].append(error.detail)
      continue
    windows = space.embed_windows(
      clip.waveform,
      sample_rate_hz=clip.sample_rate_hz,
      hop_seconds=space.window_seconds,
    )
    music[ref.id] = base.mean_direction(windows)
  if not music:
    reasons = {reason: len(details) for reason, details in rejected.items()}
    raise ValueError(
      f'{directory} has no audio file that can be read ({reasons or "none"});'
      ' look at the path.'
    )
  return music, rejected


def _stack(music: dict[str, Any]) -> np.ndarray:
  import numpy as np

  return np.stack(list(music.values()))


if __name__ == '__main__':
  shell.run('caption')
