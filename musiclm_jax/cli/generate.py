# SPDX-License-Identifier: Apache-2.0
"""Makes music from text.

  musiclm generate --model runs/model --prompt "slow piano waltz" \\
    --prompt "fast accordion reel" --seconds 10 --num_samples 4 --output out

Without --model it is the demo model that comes with the package.

Writes a WAV for each piece, a picture of the spectrograms of the first sixteen,
and generate.json: prompts, seeds, fingerprints of the model, and the time that
each stage took and that it took until the first sound and all of it were there.
A file ends in the rank of its piece among the samples of its prompt: 1 is the
piece that MuLan finds most like it.

--prompts names a file of prompts, as `musiclm prompts` writes them; the facts
in it go into generate.json, where `musiclm evaluate adherence` looks for them.
A prompt that is there again draws from the seeds after those of the first.

--stream also writes one piece to stdout, a WAV, while it is made:

  musiclm generate --prompt "slow piano waltz" --output out --stream | ffplay -

A prompt may change over time: --schedule names a file of lines `SECONDS TEXT`.
Audio may take its place (--prompt_audio), or be what the music goes on from
(--continue_from; --seconds then counts it too). An AudioLM, a model without a
conditioner, takes no prompt and ranks nothing.

Stages draw as the model states (`musiclm assemble`), but for --guidance,
--temperature, --top_k and --top_p.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import pathlib
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags, sampling_flags
from musiclm_jax.cli import main as shell
from musiclm_jax.cli.stopwatch import Stopwatch
from musiclm_jax.stages.spec import STAGES

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  import numpy as np

  from musiclm_jax.inference.music_lm import Music, MusicLM
  from musiclm_jax.inference.request import Request
  from musiclm_jax.inference.settings import SamplingConfig


def main(argv: Sequence[str]) -> None:
  watch = Stopwatch()
  options = _parser().parse_args(argv)
  pipe = sys.stdout.buffer if options.stream else None
  if pipe is not None and pipe.isatty():
    raise flags.UsageError('--stream writes sound to stdout; add `| ffplay -`.')
  told_to = sys.stdout if pipe is None else sys.stderr
  with watch.watching(), contextlib.redirect_stdout(told_to):
    _generate(options, watch=watch, pipe=pipe)


def _generate(
  options: argparse.Namespace,
  *,
  watch: Stopwatch,
  pipe: io.IOBase | None,
) -> None:
  output = pathlib.Path(options.output)
  if output.exists() and not output.is_dir():
    raise flags.UsageError(f'--output: {output} is a file; name a folder.')
  sources = ('prompt', 'prompts', 'schedule', 'prompt_audio', 'continue_from')

  from musiclm_jax.cli import generate_files, train
  from musiclm_jax.evaluation import prompts
  from musiclm_jax.inference import assembly
  from musiclm_jax.inference.music_lm import MusicLM

  assembled = assembly.read(options.model)
  sampling = sampling_flags.read(options, own=assembled.sampling)
  if not any(getattr(options, source) for source in sources):
    if assembled.mulan is not None:
      named = ', '.join(f'--{source}' for source in sources)
      raise flags.UsageError(f'nothing says what to make; give one of {named}.')
  train.keep_compiled_programs()
  described = {}  # By number; a text may be there twice, with other facts.
  if options.prompts:
    found = prompts.read(options.prompts)
    described = dict(enumerate(found, start=len(options.prompt)))
  options.prompt += [prompt.text for prompt in described.values()]
  # Says what is wrong before weights are read.
  num_pieces = len(_request(options, sampling).seeds())
  if pipe is not None and num_pieces > 1:
    raise flags.UsageError(f'--stream plays 1 piece, not {num_pieces}.')
  music_lm = MusicLM.load(options.model, dtype=options.dtype)
  request = _request(options, sampling, audio_of=music_lm)
  playing = contextlib.nullcontext()
  if pipe is not None:
    playing = _player(pipe, music_lm, request, watch=watch)
  with playing as heard:
    music = _compose(music_lm, request, heard=heard)
    made = generate_files.pieces(music_lm, request, music, described=described)
    generate_files.write(
      output,
      music_lm,
      music,
      list(made),
      model=options.model,
      request=request,
      watch=watch,
    )


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
  add('--stream', action='store_true', help='see above')
  sampling_flags.add(parser)
  add(
    '--dtype',
    choices=('float32', 'bfloat16', 'int8'),
    help="of the stages; int8 is that of their layers' kernels alone; as they"
    ' were trained if left out',
  )
  return parser


def _request(
  options: argparse.Namespace,
  sampling: SamplingConfig,
  *,
  audio_of: MusicLM | None = None,
) -> Request:
  """What is asked for; without a model, with a moment of silence for audio."""
  import numpy as np

  from musiclm_jax.audio import io as audio_io
  from musiclm_jax.inference import schedule
  from musiclm_jax.inference.request import Request

  rate_hz = 1 if audio_of is None else audio_of.sample_rate_hz

  def heard(path: str | None) -> np.ndarray | None:
    if path is None:
      return None
    if audio_of is None:
      return np.zeros(1, np.float32)
    return audio_io.read(path, sample_rate_hz=rate_hz).waveform

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


@contextlib.contextmanager
def _player(
  pipe: io.IOBase,
  music_lm: MusicLM,
  request: Request,
  *,
  watch: Stopwatch,
) -> Iterator[Callable[[np.ndarray], None]]:
  """What is given the one piece, [1, some samples], as it is made."""
  from musiclm_jax.cli import generate_files, wav_pipe

  write = wav_pipe.begin(
    pipe,
    sample_rate_hz=music_lm.sample_rate_hz,
    num_samples=request.num_samples_of_audio(music_lm.sample_rate_hz),
  )
  with wav_pipe.in_background(write) as write_later:

    def heard(part: np.ndarray) -> None:
      watch.mark(generate_files.FIRST_SOUND)
      write_later(part[0])

    yield heard


def _compose(
  music_lm: MusicLM,
  request: Request,
  *,
  heard: Callable[[np.ndarray], None] | None,
) -> Music:
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
      stage: display.add_task(stage, total=1.0, start=False) for stage in STAGES
    }

    def told(stage: str, share: float) -> None:
      display.start_task(tasks[stage])
      display.update(tasks[stage], completed=share)

    if heard is None:
      return music_lm.compose(request, progress=told)
    return music_lm.play(request, heard=heard, progress=told)


if __name__ == '__main__':
  shell.run('generate')
