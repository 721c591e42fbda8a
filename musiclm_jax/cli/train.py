# SPDX-License-Identifier: Apache-2.0
"""Trains a model, or goes on training it, as gin files say.

  musiclm train --gin_file=experiments/codec_tiny.gin \\
    --gin.MODEL_DIR="'runs/codec'" --gin.CORPUS="'runs/tunebook'"

The same command resumes a run that was interrupted. In a pod, each process
runs it; `launch/` has what starts them.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from musiclm_jax.cli import flags, pod
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm train', description=__doc__)
  parser.add_gin_flags()
  options = parser.parse_args(argv)

  # Late, so that `--help` answers at once.
  from musiclm_jax.cli import setup
  from musiclm_jax.planning import utilization
  from musiclm_jax.training import loop

  supplied = {
    'gin_config': setup.operative_config,
    'seconds_at_peak': utilization.seconds_at_peak,
  }
  train = setup.configure(options, root=loop.train, supplied=supplied)
  keep_compiled_programs()
  pod.join()
  train(**supplied)


def keep_compiled_programs() -> None:
  """Keeps compiled programs between runs, unless JAX is told where already."""
  import jax

  if not jax.config.jax_compilation_cache_dir:
    cache = pathlib.Path.home() / '.cache' / 'musiclm_jax' / 'xla'
    jax.config.update('jax_compilation_cache_dir', str(cache))
    # A small stage's programs take less than the second that JAX asks for, and
    # there are dozens of them.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


if __name__ == '__main__':
  shell.run('train')
