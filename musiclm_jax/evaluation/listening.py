# SPDX-License-Identifier: Apache-2.0
"""Blind pairs for a listening test: the page, and the key that stays behind.

MusicLM (Agostinelli et al., 2023), section 5.2: people hear two clips made from
one text and say on a scale of five steps which of them follows it better, whatever
its quality. Ours: the order of pairs and the side of each system are drawn by a
seed; both clips of a pair are brought to one loudness, and to one channel, and the
page says nothing of which is which. That is in the key, a file of its own.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile

from musiclm_jax.audio import io as audio_io
from musiclm_jax.audio import loudness
from musiclm_jax.checkpoints import text_file
from musiclm_jax.evaluation import clips as clips_of
from musiclm_jax.evaluation import listening_page, prompts

_FORMAT_VERSION = 1
_TARGET_LUFS = -23.0  # EBU R 128

_Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
  """Two clips of one prompt, one by each system.

  Attributes:
    prompt: What both were asked for; empty if it is not known.
    first: The file of the first system.
    second: Of the second.
  """

  prompt: str
  first: pathlib.Path
  second: pathlib.Path


def pair_up(first: _Path, second: _Path) -> list[Pair]:
  """The clips that two folders have in common.

  They go by prompt where both folders have a generate.json with some, and by the
  names of files otherwise. Of several samples of a prompt, the first one made.
  """
  folders = [pathlib.Path(folder).expanduser() for folder in (first, second)]
  ours, others = map(_by_prompt, folders)
  if ours and others:
    found = [
      Pair(prompt=text, first=ours[text], second=others[text])
      for text in ours
      if text in others
    ]
  else:
    ours, others = map(_by_name, folders)
    texts = _texts(folders)
    found = [
      Pair(prompt=texts.get(name, ''), first=ours[name], second=others[name])
      for name in sorted(ours.keys() & others.keys())
    ]
  if not found:
    raise ValueError(
      f'{first} and {second} have no clip in common; give folders of one set of'
      ' prompts, or with files of the same names.'
    )
  return found


def write(
  path: _Path,
  pairs: Sequence[Pair],
  *,
  systems: tuple[str, str],
  seed: int,
) -> pathlib.Path:
  """Writes the page, and beside it the key that tells what was which.

  Args:
    path: Of the HTML file.
    pairs: What is to be heard.
    systems: Their names, for the statistics; not on the page.
    seed: Of the order and of the sides.

  Returns:
    The path of the key.
  """
  draw = random.Random(seed)
  order = draw.sample(list(pairs), len(pairs))
  key: dict[str, Any] = {
    'format_version': _FORMAT_VERSION,
    'systems': list(systems),
    'seed': seed,
    'pairs': [
      {
        'prompt': pair.prompt,
        'files': [str(pair.first), str(pair.second)],
        'swapped': draw.random() < 0.5,
      }
      for pair in order
    ],
  }
  # Tells the votes of this page from those of another one, and no more.
  key['page'] = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
  shown = []
  for pair, told in zip(order, key['pairs']):
    clips = _clips(pair)
    if told['swapped']:
      clips.reverse()
    shown.append({'prompt': pair.prompt, 'clips': clips})
  path = pathlib.Path(path)
  key_path = path.with_suffix('.key.json')
  path.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(key, indent=2, ensure_ascii=False)
  text_file.write(key_path, f'{text}\n')
  text_file.write(path, listening_page.render(page=key['page'], pairs=shown))
  return key_path


def _by_prompt(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  found: dict[str, pathlib.Path] = {}
  if not (folder / prompts.GENERATED_JSON).exists():
    return found
  for prompt in prompts.of_folder(folder):
    found.setdefault(prompt.text, folder / prompt.file)
  return found


def _by_name(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  return {
    path.relative_to(folder).with_suffix('').as_posix(): path
    for path in clips_of.files_of(folder)
  }


def _texts(folders: Sequence[pathlib.Path]) -> dict[str, str]:
  """Prompts by the name of their file, where one of the folders tells them."""
  return {
    pathlib.PurePath(prompt.file).with_suffix('').as_posix(): prompt.text
    for folder in folders
    if (folder / prompts.GENERATED_JSON).exists()
    for prompt in prompts.of_folder(folder)
  }


def _clips(pair: Pair) -> list[str]:
  """Both clips as data URLs of FLAC, equally long and loud."""
  recordings = [audio_io.read(path) for path in (pair.first, pair.second)]
  seconds = min(r.waveform.size / r.sample_rate_hz for r in recordings)
  recordings = [
    dataclasses.replace(
      r, waveform=r.waveform[: round(seconds * r.sample_rate_hz)]
    )
    for r in recordings
  ]
  loud = [
    loudness.integrated_lufs(r.waveform, sample_rate_hz=r.sample_rate_hz)
    for r in recordings
  ]
  # No louder than what the one with the higher peaks can be without clipping.
  target = min(
    [_TARGET_LUFS]
    + [
      level - loudness.peak_db(recording.waveform)
      for level, recording in zip(loud, recordings)
      if level > -math.inf
    ]
  )
  return [
    _data_url(
      recording.waveform
      * (10 ** ((target - level) / 20) if level > -math.inf else 1),
      sample_rate_hz=recording.sample_rate_hz,
    )
    for level, recording in zip(loud, recordings)
  ]


def _data_url(waveform: np.ndarray, *, sample_rate_hz: int) -> str:
  file = io.BytesIO()
  soundfile.write(file, np.clip(waveform, -1, 1), sample_rate_hz, format='FLAC')
  return 'data:audio/flac;base64,' + base64.b64encode(file.getvalue()).decode()
