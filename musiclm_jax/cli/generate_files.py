# SPDX-License-Identifier: Apache-2.0
"""What `musiclm generate` writes: WAVs, a picture, and a list of them.

<number of the prompt>_<some of its text>_<rank>.wav
spectrograms.png    of the first sixteen
generate.json       how each was made, and in what time
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from musiclm_jax.audio import io
from musiclm_jax.checkpoints import text_file
from musiclm_jax.cli.stopwatch import Stopwatch
from musiclm_jax.evaluation import pictures
from musiclm_jax.evaluation.prompts import GENERATED_JSON, Prompt
from musiclm_jax.inference import assembly
from musiclm_jax.inference.music_lm import Music, MusicLM
from musiclm_jax.inference.request import Request
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.stages.spec import STAGES
from musiclm_jax.streams import Exact

PICTURE = 'spectrograms.png'
FIRST_SOUND = 'first_sound'

_MOST_PICTURED = 16  # More would make a picture too high to open.


def would_be_same(
  path: pathlib.Path, *, model: str, prompts: Sequence[str], seconds: Exact
) -> bool:
  """Whether a generate.json tells of what would now be made anew.

  Args:
    path: Of the file.
    model: As `--model` names it; it draws as it states itself.
    prompts: In order.
    seconds: Length of each piece.
  """
  assembled = assembly.read(model)
  wanted = _asked(
    fingerprints=assembled.fingerprints(),
    seconds=seconds,
    sampling=assembled.sampling,
  )
  report = json.loads(path.read_text())
  made = [piece['prompt'] for piece in report['pieces']]
  return made == [*prompts] and all(
    report.get(name) == value for name, value in wanted.items()
  )


def _asked(
  *, fingerprints: Mapping[str, str], seconds: Exact, sampling: SamplingConfig
) -> dict[str, Any]:
  """What decides how a prompt sounds, but for its seed."""
  return {
    'fingerprints': dict(fingerprints),
    'seconds': float(seconds),
    'sampling': {k: dataclasses.asdict(getattr(sampling, k)) for k in STAGES},
    'guidance': sampling.guidance_scale,
  }


def pieces(
  music_lm: MusicLM,
  request: Request,
  music: Music,
  *,
  described: Mapping[int, Prompt],
) -> Iterator[dict[str, Any]]:
  """What generate.json tells of each row of `music`."""
  num_prompts = len(music.waveform) // request.num_samples
  # Without a judge, in the order of the seeds.
  ranks = np.tile(np.arange(request.num_samples) + 1, num_prompts)
  similarity = None
  if music_lm.conditioner is not None:
    similarity = music_lm.similarity(music).tolist()
    groups = np.reshape(similarity, (num_prompts, -1))
    ranks = np.argsort(np.argsort(-groups, axis=1), axis=1).reshape(-1) + 1
  for row, waveform in enumerate(music.waveform):
    number, text = row // request.num_samples, music.prompts[row]
    asked = described.get(number)
    level = 10 * np.log10(max(float(np.mean(waveform**2)), 1e-12))
    yield {
      'file': f'{number + 1}_{_slug(text)}_{ranks[row]}.wav',
      # What was made from audio, or from nothing, has a label that is no text.
      'prompt': None if request.prompts is None else text,
      'label': text,
      **({'facts': dict(asked.facts)} if asked else {}),
      **({'reference': asked.reference} if asked and asked.reference else {}),
      'seed': int(music.seeds[row]),
      'rank': int(ranks[row]),
      'similarity': similarity and round(similarity[row], 4),
      'level_db': round(level, 2),
      'peak': round(float(np.abs(waveform).max()), 4),
    }


def _slug(text: str) -> str:
  """Some of the text, as a file name."""
  return re.sub(r'[^a-z0-9]+', '_', text.lower()).strip('_')[:40] or 'music'


def write(
  output: pathlib.Path,
  music_lm: MusicLM,
  music: Music,
  made: list[dict[str, Any]],
  *,
  model: str,
  request: Request,
  watch: Stopwatch,
) -> None:
  """Files that are each whole or absent, the list of them last."""
  output.mkdir(parents=True, exist_ok=True)
  by_rank = {}
  for piece, waveform in zip(made, music.waveform):
    io.write(
      output / piece['file'], waveform, sample_rate_hz=music.sample_rate_hz
    )
    watch.mark(FIRST_SOUND)
    by_rank[f'{piece["file"]}  seed {piece["seed"]}'] = waveform
    like = piece['similarity']
    judged = '' if like is None else f': similarity {like:.3f}'
    print(f'{output / piece["file"]}{judged}')
  pictures.save_spectrograms(
    dict(itertools.islice(by_rank.items(), _MOST_PICTURED)),
    sample_rate_hz=music.sample_rate_hz,
    path=output / PICTURE,
  )
  watch.mark('all')
  spent = sum(music.seconds.values())
  audio_seconds = len(made) * float(request.seconds)
  report = {
    'model': model,
    **_asked(
      fingerprints=music_lm.fingerprints,
      seconds=request.seconds,
      sampling=request.sampling,
    ),
    'sample_rate_hz': music.sample_rate_hz,
    'picture': PICTURE,
    'time_spent': {k: round(v, 3) for k, v in music.seconds.items()},
    'audio_seconds_per_second': round(audio_seconds / spent, 4),
    'time_until': watch.marks,
    'pieces': made,
  }
  text_file.write(output / GENERATED_JSON, json.dumps(report, indent=2) + '\n')
  stages = ', '.join(f'{k} {v:.1f} s' for k, v in music.seconds.items())
  print(f'{output / GENERATED_JSON}: {audio_seconds:g} s of audio; {stages}')
  print(watch)
