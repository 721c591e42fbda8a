# SPDX-License-Identifier: Apache-2.0
"""What this machine can do at all, measured in the run that is compared to it.

The limits are those of a plain matrix product and of reading weights once, each
the best of several tries and of the libraries at hand: a share of them says how
much a program leaves lying, whatever the machine is and whoever shares it.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_GEMM_SIZE = 2048
# As much as a small model's weights, and more than a cache holds.
_READ_BYTES = 80 * 2**20
_READ_WIDTH = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """The best that was seen.

  Attributes:
    flops_per_second: Of a float32 (or `dtype`) matrix product.
    bytes_per_second: Of reading a matrix once, in a product with a vector.
  """

  flops_per_second: float
  bytes_per_second: float

  def __or__(self, other: Limits) -> Limits:
    """The better of two measurements of the same machine."""
    return Limits(
      flops_per_second=max(self.flops_per_second, other.flops_per_second),
      bytes_per_second=max(self.bytes_per_second, other.bytes_per_second),
    )


def seconds_of(function: Callable[[], Any], *, num_runs: int) -> list[float]:
  """Wall time of each run, its result waited for."""
  seconds = []
  for _ in range(num_runs):
    start = time.perf_counter()
    jax.block_until_ready(function())
    seconds.append(time.perf_counter() - start)
  return seconds


def measure(*, dtype: str = 'float32', num_runs: int = 8) -> Limits:
  """Measures the default device; on a CPU with NumPy too."""
  square = jnp.ones((_GEMM_SIZE, _GEMM_SIZE), dtype)
  num_rows = _READ_BYTES // (_READ_WIDTH * square.dtype.itemsize)
  tall = jnp.ones((num_rows, _READ_WIDTH), dtype)
  product = jax.jit(jnp.matmul)

  def best(left: Any, right: Any) -> float:
    jax.block_until_ready(product(left, right))  # Compiles.
    runs = [lambda: product(left, right)]
    if jax.default_backend() == 'cpu' and dtype == 'float32':
      hosts = np.asarray(left), np.asarray(right)
      runs.append(lambda: hosts[0] @ hosts[1])
    return min(min(seconds_of(run, num_runs=num_runs)) for run in runs)

  return Limits(
    flops_per_second=2 * _GEMM_SIZE**3 / best(square, square),
    bytes_per_second=tall.nbytes / best(tall, tall[0]),
  )


def device_name() -> str:
  """Of the default device; of a CPU also the model and the cores we may use."""
  device = jax.devices()[0]
  if device.platform != 'cpu':
    return f'{jax.device_count()} x {device.device_kind}'
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  text = cpuinfo.read_text() if cpuinfo.exists() else ''
  model = re.search(r'model name\s*:\s*(.+)', text)
  cores = len(os.sched_getaffinity(0))
  return f'{cores} x {model[1] if model else "CPU"}'
