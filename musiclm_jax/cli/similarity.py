# SPDX-License-Identifier: Apache-2.0
"""Ranks texts by how well they match an audio file.

  musiclm similarity --model runs/mulan music.wav "slow piano" "fast accordion"

Takes trained towers, or a conditioner. Prints the cosine of the text's and the
music's embeddings, the mean of the windows of the whole file.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm similarity', description=__doc__)
  parser.add_argument('--model', required=True, help='folder of the bundle')
  parser.add_argument('audio', help='audio file to read')
  parser.add_argument('texts', nargs='+', metavar='TEXT')
  options = parser.parse_args(argv)

  # Late, so that `--help` and a wrong command answer at once.
  import rich
  from rich import markup, table

  from musiclm_jax.audio import io
  from musiclm_jax.conditioning import mulan

  space = mulan.load_space(options.model)
  recording = io.read(options.audio, sample_rate_hz=space.sample_rate_hz)
  music = space.embed_audio(
    recording.waveform[None], sample_rate_hz=recording.sample_rate_hz
  )
  cosines = (space.embed_text(options.texts) @ music.T)[:, 0]
  ranked = table.Table('', 'text', 'cosine')
  for place, number in enumerate(cosines.argsort()[::-1], start=1):
    ranked.add_row(
      f'{place}',
      markup.escape(options.texts[number]),
      f'{cosines[number]:.3f}',
    )
  rich.print(ranked)


if __name__ == '__main__':
  shell.run('similarity')
