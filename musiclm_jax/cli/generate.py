# SPDX-License-Identifier: Apache-2.0
"""Makes music from text.

  musiclm generate --model runs/model --prompt "slow piano waltz" \\
    --prompt "fast accordion reel" --seconds 10 --num_samples 4 --output out

Without --model it is the demo model that comes with the package.

Writes a WAV for each piece, a picture of the spectrograms of the first sixteen,
and generate.json: prompts, seeds, fingerprints of the model and the time that
each stage took. A file ends in the rank of its piece among the samples of its
prompt: 1 is the piece that MuLan finds most like it.

--prompts names a file of prompts, as `musiclm prompts` writes them; the facts
in it go into generate.json, where `musiclm evaluate adherence` looks for them.
A prompt that is there again draws from the seeds after those of the first.

A prompt may change over time: --schedule names a file of lines `SECONDS TEXT`.
Audio may take its place (--prompt_audio), or be what the music goes on from
(--continue_from; --seconds then counts it too). An AudioLM, a model without a
conditioner, takes no prompt and ranks nothing.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import json
import pathlib
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.evaluation.prompts import Prompt
  from musiclm_jax.inference.music_lm import Music, MusicLM
  from musiclm_jax.inference.request import Request
  from musiclm_jax.inference.settings import SamplingConfig

_JSON = 'generate.json'
_PICTURE = 'spectrograms.png'
_STAGES = ('semantic', 'coarse', 'fine')
_MOST_PICTURED = 16  # More would make a picture too high to open.


def main(argv: Sequence[str]) -> None:
  options = _parser().parse_args(argv)
  output = pathlib.Path(options.output)
  if output.exists() and not output.is_dir():
    raise flags.UsageError(f'--output: {output} is a file; name a folder.')
  sources = ('prompt', 'prompts', 'schedule', 'prompt_audio', 'continue_from')
  sampling = _sampling(options)

  from musiclm_jax.cli import train
  from musiclm_jax.evaluation import prompts
  from musiclm_jax.inference import assembly
  from musiclm_jax.inference.music_lm import MusicLM

  if not any(getattr(options, source) for source in sources):
    if assembly.read(options.model).mulan is not None:
      named = ', '.join(f'--{source}' for source in sources)
      raise flags.UsageError(f'nothing says what to make; give one of {named}.')
  train.keep_compiled_programs()
  described = {}  # By number; a text may be there twice, with other facts.
  if options.prompts:
    found = prompts.read(options.prompts)
    described = dict(enumerate(found, start=len(options.prompt)))
  options.prompt += [prompt.text for prompt in described.values()]
  _request(options, sampling)  # Says what is wrong before weights are read.
  music_lm = MusicLM.load(options.model, dtype=options.dtype)
  request = _request(options, sampling, audio_of=music_lm)
  music = _compose(music_lm, request)
  pieces = list(_pieces(music_lm, request, music, described=described))
  _write(output, music_lm, music, pieces, options=options, request=request)


def _parser() -> flags.Parser:
  parser = flags.Parser(prog='musiclm generate', description=__doc__)
  add = parser.add_argument
  add(
    '--model',
    default='demo',
    help='folder of a music_lm.json; the demo model if left out',
  )
  add('--prompt', action='append', default=[], help='repeatable')
  add('--prompts', metavar='FILE', help='a file of prompts')
  add('--schedule', action='append', default=[], help='a file; repeatable')
  add('--prompt_audio', help='an audio file in place of prompts')
  add('--continue_from', help='an audio file that the music begins with')
  add('--seconds', default='10', help='length of each piece')
  add('--seed', type=int, default=0, help='of the first sample of each prompt')
  add('--num_samples', type=int, default=1, help='pieces for each prompt')
  add('--output', required=True, help='folder to write to')
  add('--guidance', type=float, help='scale of classifier-free guidance')
  for name, kind, about in (
    ('temperature', float, '0 takes the likeliest code'),
    ('top_k', int, 'how many of the likeliest codes may be drawn'),
    ('top_p', float, 'the share of probability that may be drawn'),
  ):
    add(
      f'--{name}',
      type=_per_stage(kind),
      help=f'{about}; one for all stages, or one for each, such as 1,0.95,0.4',
    )
  add(
    '--dtype',
    choices=('float32', 'bfloat16'),
    help='of the stages; as they were trained if left out',
  )
  return parser


def _per_stage(kind: type) -> Any:
  """Reads one number, or three, as three."""

  def read(text: str) -> tuple[Any, ...]:
    values = tuple(kind(part) for part in text.split(','))
    if len(values) not in (1, len(_STAGES)):
      raise argparse.ArgumentTypeError(
        f'{text!r} has {len(values)} numbers; give 1 for all stages or'
        f' {len(_STAGES)} for {", ".join(_STAGES)}'
      )
    return values * len(_STAGES) if len(values) == 1 else values

  read.__name__ = 'number'
  return read


def _sampling(options: argparse.Namespace) -> SamplingConfig:
  from musiclm_jax.inference import sampling as samplers
  from musiclm_jax.inference.settings import SamplingConfig

  config = SamplingConfig(guidance_scale=options.guidance)
  chosen = {}
  for number, stage in enumerate(_STAGES):
    given = {
      name: getattr(options, name)[number]
      for name in ('temperature', 'top_k', 'top_p')
      if getattr(options, name) is not None
    }
    if given.get('temperature') == 0:
      chosen[stage] = samplers.greedy
    else:
      chosen[stage] = dataclasses.replace(getattr(config, stage), **given)
  return dataclasses.replace(config, **chosen)


def _request(
  options: argparse.Namespace,
  sampling: SamplingConfig,
  *,
  audio_of: MusicLM | None = None,
) -> Request:
  """What is asked for; without a model, with a moment of silence for audio."""
  import numpy as np

  from musiclm_jax.audio import io
  from musiclm_jax.inference import schedule
  from musiclm_jax.inference.request import Request

  rate_hz = 1 if audio_of is None else audio_of.sample_rate_hz

  def heard(path: str | None) -> np.ndarray | None:
    if path is None:
      return None
    if audio_of is None:
      return np.zeros(1, np.float32)
    return io.read(path, sample_rate_hz=rate_hz).waveform

  prompts = [*options.prompt, *map(schedule.read, options.schedule)]
  return Request(
    prompts=prompts or None,
    seconds=options.seconds,
    seed=_seeds(prompts, options=options) if prompts else options.seed,
    num_samples=options.num_samples,
    prompt_audio=heard(options.prompt_audio),
    continue_from=heard(options.continue_from),
    sample_rate_hz=rate_hz,
    sampling=sampling,
  )


def _seeds(
  prompts: Sequence[Hashable], *, options: argparse.Namespace
) -> list[int]:
  """Of the first sample of each; else the same prompt would be one piece."""
  seen = collections.Counter()
  seeds = []
  for prompt in prompts:
    seeds.append(options.seed + options.num_samples * seen[prompt])
    seen[prompt] += 1
  return seeds


def _compose(music_lm: MusicLM, request: Request) -> Music:
  """Makes the music, with a bar for each stage."""
  from rich import progress

  columns = (
    progress.TextColumn('{task.description:>8}'),
    progress.BarColumn(),
    progress.TaskProgressColumn(),
    progress.TimeElapsedColumn(),
  )
  with progress.Progress(*columns) as display:
    tasks = {
      stage: display.add_task(stage, total=1.0, start=False)
      for stage in _STAGES
    }

    def told(stage: str, share: float) -> None:
      display.start_task(tasks[stage])
      display.update(tasks[stage], completed=share)

    return music_lm.compose(request, progress=told)


def _pieces(
  music_lm: MusicLM,
  request: Request,
  music: Music,
  *,
  described: Mapping[int, Prompt],
) -> Iterator[dict[str, Any]]:
  """What generate.json tells of each row of `music`."""
  import numpy as np

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


def _told(sampler: Any) -> Any:
  """A sampler in JSON: its name, or its numbers."""
  if dataclasses.is_dataclass(sampler):
    return dataclasses.asdict(sampler)
  return sampler.__name__


def _slug(text: str) -> str:
  """Some of the text, as a file name."""
  return re.sub(r'[^a-z0-9]+', '_', text.lower()).strip('_')[:40] or 'music'


def _write(
  output: pathlib.Path,
  music_lm: MusicLM,
  music: Music,
  pieces: list[dict[str, Any]],
  *,
  options: argparse.Namespace,
  request: Request,
) -> None:
  """Files that are each whole or absent, the list of them last."""
  from musiclm_jax.audio import io
  from musiclm_jax.checkpoints import text_file
  from musiclm_jax.evaluation import pictures

  output.mkdir(parents=True, exist_ok=True)
  by_rank = {}
  for piece, waveform in zip(pieces, music.waveform):
    io.write(
      output / piece['file'], waveform, sample_rate_hz=music.sample_rate_hz
    )
    by_rank[f'{piece["file"]}  seed {piece["seed"]}'] = waveform
    like = piece['similarity']
    judged = '' if like is None else f': similarity {like:.3f}'
    print(f'{output / piece["file"]}{judged}')
  pictures.save_spectrograms(
    dict(itertools.islice(by_rank.items(), _MOST_PICTURED)),
    sample_rate_hz=music.sample_rate_hz,
    path=output / _PICTURE,
  )
  spent = sum(music.seconds.values())
  audio_seconds = len(pieces) * float(request.seconds)
  sampling = request.sampling
  report = {
    'model': options.model,
    'fingerprints': music_lm.fingerprints,
    'seconds': float(request.seconds),
    'sample_rate_hz': music.sample_rate_hz,
    'sampling': {k: _told(getattr(sampling, k)) for k in _STAGES},
    'guidance': sampling.guidance_scale,
    'picture': _PICTURE,
    'time_spent': {k: round(v, 3) for k, v in music.seconds.items()},
    'audio_seconds_per_second': round(audio_seconds / spent, 4),
    'pieces': pieces,
  }
  text_file.write(output / _JSON, json.dumps(report, indent=2) + '\n')
  stages = ', '.join(f'{k} {v:.1f} s' for k, v in music.seconds.items())
  print(f'{output / _JSON}: {audio_seconds:g} s of audio; {stages}')


if __name__ == '__main__':
  shell.run('generate')
