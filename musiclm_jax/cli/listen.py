# SPDX-License-Identifier: Apache-2.0
"""Makes a blind listening test of two folders, or counts its votes.

  musiclm listen --a out/ours --b out/theirs --output test/page.html
  musiclm listen --votes anna.json ben.json --key test/page.key.json

The page is one file with the audio inside: people hear two clips of one prompt and
say on five steps which fits it better. Their browser saves votes as a file. The
key beside the page tells which clip was whose: keep it, and send the page alone.
With the votes of several pages give all of their keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm listen', description=__doc__)
  add = parser.add_argument
  add('--a', metavar='DIR', help='clips of one system')
  add('--b', metavar='DIR', help='clips of the other')
  add('--seed', type=int, default=0, help='of the order and the sides')
  add('--output', help='page to write')
  add('--votes', nargs='+', metavar='FILE', help='what listeners saved')
  add('--key', nargs='+', metavar='FILE', help='of the pages they heard')
  options = parser.parse_args(argv)
  to_make = [options.a, options.b, options.output]
  to_count = [options.votes, options.key]
  if all(to_make) and not any(to_count):
    _make(options.a, options.b, output=options.output, seed=options.seed)
  elif all(to_count) and not any(to_make):
    _count(options.votes, options.key)
  else:
    raise flags.UsageError(
      'give --a, --b and --output for a page, or --votes and --key to count.'
    )


def _make(first: str, second: str, *, output: str, seed: int) -> None:
  from musiclm_jax.evaluation import listening

  pairs = listening.pair_up(first, second)
  key = listening.write(output, pairs, systems=(first, second), seed=seed)
  print(f'{output}: {len(pairs)} pairs. {key} tells which is which; keep it.')


def _count(votes: Sequence[str], keys: Sequence[str]) -> None:
  from musiclm_jax.evaluation import listening_votes

  found = listening_votes.compare(listening_votes.read(votes, key_paths=keys))
  print(listening_votes.to_markdown(found))


if __name__ == '__main__':
  shell.run('listen')
