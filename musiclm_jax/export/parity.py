# SPDX-License-Identifier: Apache-2.0
"""The parity sheet: how far PyTorch is from JAX, figure by figure, and bounds.

Each check compares what both make of the same input. The relative error is the
largest error over the largest value of what is compared: that of a small value
beside large ones says nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Protocol

import jax
import numpy as np
from jaxtyping import Shaped

from musiclm_jax.array_types import Array
from musiclm_jax.checkpoints.bundle import Bundle
from musiclm_jax.export import parity_report
from musiclm_jax.export.clips import Clips

JSON = 'parity.json'
MARKDOWN = 'PARITY.md'

# Of what a layer makes, over its largest value. Sums of a few thousand products
# in another order differ by some 1e-6; a wrong layer by 1.
LAYER_BOUND = 1e-4
WAVEFORM_BOUND = 1e-4

# How many of those that fail are named.
_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
  """One comparison.

  Attributes:
    component: 'codec', 'stages/coarse', …, 'music_lm', 'programs' or 'onnx'.
    name: What is compared; of a layer, PyTorch's name.
    shape: Of it, as JAX has it.
    max_abs_error: The largest difference; None for codes.
    max_relative_error: That, over the largest value; None for codes.
    equal_share: Of the codes; None for numbers.
    bound: What is asked, in words; None if it is reported only.
    passed: Whether it holds.
    note: What else there is to say.
  """

  component: str
  name: str
  shape: tuple[int, ...]
  max_abs_error: float | None = None
  max_relative_error: float | None = None
  equal_share: float | None = None
  bound: str | None = None
  passed: bool = True
  note: str = ''


class Comparison(Protocol):
  """Adds all checks of one kind of component to a sheet."""

  def __call__(
    self,
    sheet: Sheet,
    component: str,
    *,
    found: Bundle,
    folder: pathlib.Path,
    clips: Clips,
  ) -> None:
    """Compares a bundle with what was exported of it.

    Args:
      sheet: Where to.
      component: Its place in the exported folder.
      found: The bundle.
      folder: What was exported of it.
      clips: What to compare on.
    """


@dataclasses.dataclass(kw_only=True)
class Sheet:
  """All checks of one export.

  Attributes:
    clips: What was compared on, in words.
    fingerprints: Of the components, by their place.
    backend: What JAX computes on.
    checks: In order.
  """

  clips: str
  fingerprints: dict[str, str]
  backend: str = dataclasses.field(default_factory=jax.default_backend)
  checks: list[Check] = dataclasses.field(default_factory=list)

  def values(
    self,
    component: str,
    name: str,
    *,
    wanted: Shaped[Array, ...],
    got: Shaped[Array, ...],
    absolute: float | None = None,
    relative: float | None = None,
  ) -> None:
    """Compares numbers.

    Args:
      component: Whose they are.
      name: What they are.
      wanted: JAX's.
      got: PyTorch's, of the same shape.
      absolute: Bound of the error, if there is one.
      relative: Bound of the error over the largest value, if there is one.
    """
    wanted, got = np.asarray(wanted), np.asarray(got)
    if wanted.shape != got.shape:
      raise ValueError(
        f'{component} {name}: JAX makes {list(wanted.shape)}, PyTorch'
        f' {list(got.shape)}.'
      )
    wanted, got = wanted.astype(np.float64), got.astype(np.float64)
    error = float(np.abs(wanted - got).max(initial=0))
    scale = float(np.abs(wanted).max(initial=0))
    share = error / scale if scale else error
    bounds = (
      ('error', error, absolute),
      ('relative error', share, relative),
    )
    asked = [
      f'{what} ≤ {bound:g}' for what, _, bound in bounds if bound is not None
    ]
    self.checks.append(
      Check(
        component=component,
        name=name,
        shape=wanted.shape,
        max_abs_error=error,
        max_relative_error=share,
        bound=', '.join(asked) or None,
        # So written that NaN fails.
        passed=all(
          found <= bound for _, found, bound in bounds if bound is not None
        ),
      )
    )

  def codes(
    self,
    component: str,
    name: str,
    *,
    wanted: Shaped[Array, ...],
    got: Shaped[Array, ...],
    num_unexplained: int = 0,
    least_share: float | None = None,
    note: str = '',
  ) -> None:
    """Compares codes or tokens.

    Args:
      component: Whose they are.
      name: What they are.
      wanted: JAX's.
      got: PyTorch's, of the same shape.
      num_unexplained: How many differ although the margin between both is
        larger than the error: asked to be none.
      least_share: Asked in place of that: how many must be equal.
      note: What else there is to say.
    """
    wanted, got = np.asarray(wanted), np.asarray(got)
    if wanted.shape != got.shape:
      raise ValueError(
        f'{component} {name}: JAX makes {list(wanted.shape)}, PyTorch'
        f' {list(got.shape)}.'
      )
    equal_share = float(np.mean(wanted == got))
    bound = 'equal where the margin exceeds the error'
    if least_share is not None:
      bound = f'equal ≥ {100 * least_share:g} %'
    self.checks.append(
      Check(
        component=component,
        name=name,
        shape=wanted.shape,
        equal_share=equal_share,
        bound=bound,
        passed=not num_unexplained and equal_share >= (least_share or 0),
        note=note,
      )
    )

  def require_passed(self) -> None:
    """Raises unless every bound holds.

    Raises:
      ValueError: Names what fails, and by how much.
    """
    failed = [check for check in self.checks if not check.passed]
    if not self.checks:
      raise ValueError('Nothing was compared.')
    if failed:
      named = '; '.join(map(_in_words, failed[:_NAMED]))
      raise ValueError(
        f'PyTorch and JAX differ in {len(failed)} of {len(self.checks)} checks:'
        f' {named}.'
      )

  def write(self, directory: pathlib.Path) -> None:
    """Writes parity.json and PARITY.md."""
    fields = {
      'clips': self.clips,
      'backend': self.backend,
      'fingerprints': self.fingerprints,
      'checks': [dataclasses.asdict(check) for check in self.checks],
    }
    (directory / JSON).write_text(json.dumps(fields, indent=2) + '\n')
    (directory / MARKDOWN).write_text(parity_report.markdown(self))


@contextlib.contextmanager
def highest_precision() -> Iterator[None]:
  """JAX multiplies in full float32: a TPU or a GPU else rounds the factors."""
  with jax.default_matmul_precision('highest'):
    yield


def _in_words(check: Check) -> str:
  found = (
    f'{check.equal_share:.2%} equal {check.note}'.strip()
    if check.equal_share is not None
    else f'error {check.max_abs_error:.2g}, relative'
    f' {check.max_relative_error:.2g}'
  )
  return f'{check.component} {check.name}: {found} ({check.bound})'
