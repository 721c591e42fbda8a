# SPDX-License-Identifier: Apache-2.0
"""How much of its devices' peak rate a run can say that it uses.

Its FLOPs are those of its plan: of products alone, nothing computed twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import jax
from absl import logging
from flax.core import meta

from musiclm_jax.planning import abstract, cost, devices, program
from musiclm_jax.training.state import Trainable


def useful_flops(training: Trainable, batch: abstract.AbstractBatch) -> float:
  """Of one step of all devices, nothing computed twice."""
  region = traced_step(training, batch, remat=False, num_microbatches=1)
  num_rows = next(iter(batch.values())).shape[0]
  return cost.flops(region, program.Split(num_rows=num_rows))


def seconds_at_peak(training: Trainable, batch: Any) -> float | None:
  """What one device would take for a step's useful FLOPs at its peak rate.

  Args:
    training: What is trained.
    batch: The global one, whose shapes alone are read.

  Returns:
    `None`, and a line in the log, where it cannot be told.
  """
  kind = jax.devices()[0].device_kind
  chip = devices.chip_named(kind)
  if chip is None:
    logging.info('There is no MFU: the peak rate of %r is not known.', kind)
    return None
  try:
    return useful_flops(training, batch) / chip.flops_per_second
  except Exception as error:  # No figure is worth a run.
    logging.warning('There is no MFU: %s', error)
    return None


def traced_step(
  training: Trainable,
  batch: abstract.AbstractBatch,
  *,
  remat: bool,
  num_microbatches: int,
  **marked: Collection[int],
) -> program.Region:
  """The step, for any number of rows; `marked` is `program.trace`'s.

  Plain, whatever is configured: a fused attention multiplies the same, but no
  machine that plans may run it, and parts of a batch want to divide its rows.
  """
  training = abstract.with_fields(
    abstract.with_remat(training, remat=remat),
    attention='einsum',
    tower_rows=None,
    block_rows=None,
  )
  if hasattr(training, 'num_microbatches'):
    training = dataclasses.replace(training, num_microbatches=num_microbatches)
  rows = abstract.with_rows(
    batch, num_rows=program.PRIME_ROWS * num_microbatches
  )
  state = meta.unbox(abstract.boxed_state(training, batch=rows))
  return program.trace(training.train_step, state, rows, **marked)
