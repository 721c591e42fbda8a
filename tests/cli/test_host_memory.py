# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest

from musiclm_jax.cli import host_memory

_PROGRAM = """
import resource, sys
from musiclm_jax.cli import host_memory
if sys.argv[1] == 'keep':
  assert host_memory.keep_freed_memory()
import jax, jax.numpy as jnp
array = jnp.ones((1000, 10000))
program = jax.jit(
  lambda x: jnp.sum(jax.lax.optimization_barrier(jnp.concatenate([x] * 4)) * 2)
)
for run in range(24):
  if run == 12:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  program(array).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(how):
  return int(
    subprocess.run(
      [sys.executable, '-c', _PROGRAM, how],
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      check=True,
      capture_output=True,
      text=True,
    ).stdout
  )


@pytest.mark.skipif(sys.platform != 'linux', reason='mallopt is glibc’s')
def test_a_program_that_runs_again_takes_few_new_pages():
  # Not none: now and then something small lies in the way of a large block.
  assert _page_faults('keep') < _page_faults('leave') / 2


@pytest.mark.parametrize(
  ('platforms', 'wanted'), [('cpu', True), ('cuda', False), ('cuda,cpu', False)]
)
def test_an_accelerator_leaves_malloc_alone(monkeypatch, platforms, wanted):
  monkeypatch.setenv('JAX_PLATFORMS', platforms)
  assert host_memory.runs_on_cpu() is wanted
