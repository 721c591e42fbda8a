# SPDX-License-Identifier: Apache-2.0
"""Passes an audio file through a trained codec.

  musiclm reconstruct --model runs/codec in.wav out.wav --levels 4

Reads any audio file at any rate, mixed down to one channel, and writes the
format that the suffix of the output names, at the rate of the codec.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm reconstruct', description=__doc__)
  parser.add_argument('--model', required=True, help='folder of the bundle')
  parser.add_argument(
    '--levels', type=int, help='how many levels to decode; all if left out'
  )
  parser.add_argument('source', help='audio file to read')
  parser.add_argument('target', help='audio file to write')
  options = parser.parse_args(argv)

  # Late, so that `--help` and a wrong command answer at once.
  from musiclm_jax.audio import io
  from musiclm_jax.codec import base

  codec = base.load_codec(options.model)
  recording = io.read(options.source, sample_rate_hz=codec.sample_rate_hz)
  waveform = recording.waveform[None]
  codes = codec.encode(
    waveform,
    sample_rate_hz=recording.sample_rate_hz,
    num_levels=options.levels,
  )
  decoded = codec.decode(codes)[0, : waveform.shape[1]]
  io.write(options.target, decoded, sample_rate_hz=codec.sample_rate_hz)

  _, frames, levels = codes.shape
  seconds = waveform.shape[1] / codec.sample_rate_hz
  bits = (codec.stream.codebook_size - 1).bit_length()
  kbps = float(codec.stream.rate_hz) * levels * bits / 1000
  print(
    f'{options.target}: {seconds:.2f} s through {frames} frames of {levels}'
    f' levels, {kbps:g} kbps.'
  )


if __name__ == '__main__':
  shell.run('reconstruct')
