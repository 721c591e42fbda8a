# SPDX-License-Identifier: Apache-2.0
"""Brings an exported model back from PyTorch, fine-tuned or not.

  musiclm import_torch --exported exported --output runs/model

Reads the model.safetensors of every component, as `state_dict()` gave it, and
publishes bundles. Weights that nobody changed keep their fingerprint; others
get a new one, and stages that were trained on codes of the old one are refused.
--exported may also be the folder of one component.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm import_torch', description=__doc__)
  parser.add_argument(
    '--exported', required=True, metavar='DIR', help='what was exported'
  )
  parser.add_argument(
    '--output', required=True, metavar='DIR', help='a folder not there yet'
  )
  options = parser.parse_args(argv)

  # Late, so that `--help` and a wrong command answer at once.
  from musiclm_jax.export import importing

  published = importing.import_folder(options.exported, options.output)
  for place, fingerprint in published.items():
    print(f'{place}: {fingerprint}')


if __name__ == '__main__':
  shell.run('import_torch')
