# SPDX-License-Identifier: Apache-2.0
"""Keeps memory that was freed, for programs that run on the CPU.

XLA:CPU takes the buffers of a step from malloc and frees them after it. glibc
hands large ones back to the kernel, so each step takes its pages anew: 0.5 ms a
megabyte, which for a training step of a codec is as long as its arithmetic.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os

# Of mallopt(3): parameter and value. No mapping of its own for a large block,
# no page back to the kernel, and one arena, because others cannot hold one.
_OPTIONS = ((-4, 0), (-1, -1), (-8, 1))


def keep_freed_memory() -> bool:
  """Call before the first thread starts: other arenas would stay as they are.

  Returns:
    Whether it was done: JAX will run on the CPU, and malloc is glibc's.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None or not runs_on_cpu():
    return False
  return all([mallopt(*option) for option in _OPTIONS])


def runs_on_cpu() -> bool:
  """Whether JAX will have nothing but the CPU, told without importing it."""
  platforms = os.environ.get('JAX_PLATFORMS')
  if platforms:
    return platforms == 'cpu'
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  return not plugins and importlib.util.find_spec('libtpu') is None
