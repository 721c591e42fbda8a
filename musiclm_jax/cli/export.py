# SPDX-License-Identifier: Apache-2.0
"""Exports a model to PyTorch, with proof that it is the same model.

  musiclm export --model runs/model --output exported --corpus runs/tunebook

Writes weights, configs and PyTorch modules that need no JAX, and PARITY.md: how
far each layer, the codes and the audio are from those of JAX. Where a bound
does not hold, only that is written, to exported.parity/. --model may also be
one bundle alone.

--format stablehlo writes programs of codec and stages for JAX hosts instead.

Compared on clips of the corpus, or on audio files (--clips), or on a synthetic
clip if neither is given.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.export.clips import Clips

_NUM_CLIPS = 3
_SECONDS = 60


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm export', description=__doc__)
  add = parser.add_argument
  add('--model', required=True, help='folder of a music_lm.json or a bundle')
  add('--output', required=True, help='a folder that is not there yet')
  add('--corpus', help='a prepared corpus, whose test split is compared on')
  add('--clips', nargs='+', metavar='FILE', help='audio files, in its place')
  add('--license', help="of a MusicLM's weights, such as 'cc-by-4.0'")
  add('--programs', action='store_true', help='torch.export programs too')
  add('--onnx', action='store_true', help='codec decoder and MuLan text too')
  add('--format', choices=('pytorch', 'stablehlo'), default='pytorch')
  options = parser.parse_args(argv)
  if options.corpus and options.clips:
    raise flags.UsageError('give --corpus or --clips, not both.')

  from musiclm_jax.cli import train
  from musiclm_jax.export import exporting, model_card, parity

  train.keep_compiled_programs()
  if options.format == 'stablehlo':
    _require_no_options_of_pytorch(options)
    exporting.export_stablehlo(options.model, options.output)
    print(f'{options.output}: programs for CPU, CUDA and TPU, and weights.')
    return
  sheet = exporting.export(
    options.model,
    options.output,
    clips=_clips(options),
    license=options.license or model_card.UNKNOWN_LICENSE,
    with_programs=options.programs,
    with_onnx=options.onnx,
  )
  print(
    f'{options.output}: {len(sheet.checks)} comparisons within their bounds,'
    f' see {parity.MARKDOWN}.'
  )


def _require_no_options_of_pytorch(options: argparse.Namespace) -> None:
  names = ('programs', 'onnx', 'license', 'corpus', 'clips')
  if given := [f'--{name}' for name in names if getattr(options, name)]:
    raise flags.UsageError(
      f'{", ".join(given)} of a PyTorch folder; leave out --format=stablehlo.'
    )


def _clips(options: argparse.Namespace) -> Clips:
  from musiclm_jax.export import clips

  if options.corpus:
    return _of_corpus(options.corpus)
  if not options.clips:
    return clips.synthetic()
  from musiclm_jax.audio import io

  recordings = [io.read(path, num_seconds=_SECONDS) for path in options.clips]
  return clips.Clips(
    waveforms=tuple(recording.waveform for recording in recordings),
    rates_hz=tuple(recording.sample_rate_hz for recording in recordings),
    about=', '.join(pathlib.Path(path).name for path in options.clips),
  )


def _of_corpus(directory: str) -> Clips:
  """Clips spread evenly over the test split, told without local paths."""
  from musiclm_jax.data.corpus import AudioCorpus
  from musiclm_jax.export.clips import Clips

  corpus = AudioCorpus(directory)
  name = pathlib.Path(directory).resolve().name
  held_out = corpus.clips('test')
  chosen = held_out[:: -(-len(held_out) // _NUM_CLIPS)]
  return Clips(
    waveforms=tuple(corpus.waveform(clip) for clip in chosen),
    rates_hz=(corpus.sample_rate_hz,) * len(chosen),
    about=f'{len(chosen)} clips of {name}, split test: '
    + ', '.join(corpus.describe(clip).id for clip in chosen),
  )


if __name__ == '__main__':
  shell.run('export')
