# SPDX-License-Identifier: Apache-2.0
"""What hooks share that evaluate a model in training as it would be published."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from musiclm_jax.checkpoints import bundle
from musiclm_jax.training.hooks import Run
from musiclm_jax.training.state import TrainState


class Published:
  """What a run would publish, of one kind."""

  def __init__(
    self,
    kind: str,
    *,
    hook: str,
    require: Callable[[bundle.BundleContents], None] = lambda contents: None,
  ):
    """Sees no run yet.

    Args:
      kind: Of the bundle.
      hook: What wants it, for messages.
      require: Raises unless such contents can be evaluated; their weights may
        be abstract.
    """
    self._kind = kind
    self._hook = hook
    self._require = require
    self._has_checked = False

  def check_once(self, run: Run) -> None:
    """After the first step, not hours later.

    Raises:
      ValueError: The run publishes what the hook cannot evaluate.
    """
    if self._has_checked:
      return

    def check(state: TrainState) -> None:
      contents = run.training.bundle(state)
      if contents.kind != self._kind:
        raise ValueError(
          f'{self._hook} evaluates a {self._kind!r}, and this run trains a'
          f' {contents.kind!r}; leave it out of its hooks.'
        )
      self._require(contents)

    jax.eval_shape(check, run.state)
    self._has_checked = True

  def of(self, run: Run) -> bundle.BundleContents:
    """As it is after this step, its weights on the host."""
    contents = run.training.bundle(run.state)
    weights = jax.tree.map(bundle.to_host, contents.weights)
    return dataclasses.replace(contents, weights=weights)


def of_first_process(figures: dict[str, float]) -> dict[str, float]:
  """The same figures in every process, for they may decide what is kept."""
  if jax.process_count() == 1:
    return figures
  from jax.experimental import multihost_utils

  values = np.array(list(figures.values()), np.float32)
  values = multihost_utils.broadcast_one_to_all(values)
  return dict(zip(figures, map(float, values)))
