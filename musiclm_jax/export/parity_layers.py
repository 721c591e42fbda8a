# SPDX-License-Identifier: Apache-2.0
"""What every layer makes, in JAX and in PyTorch, matched by the naming rule.

Linen captures what its modules return, PyTorch's hooks do the same. A module
that holds weights and runs on one side alone is an error: a layer that is
compared with nothing would pass.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import torch
from flax import linen as nn

from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.export import naming, parity

_INTERMEDIATES = 'intermediates'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captured:
  """What one run of a Linen module made.

  Attributes:
    result: What it returned.
    layers: What each module within made, by its path.
  """

  result: Any
  layers: Mapping[str, np.ndarray]


def run_linen(
  module: nn.Module,
  variables: Mapping[str, Any],
  *inputs: Any,
  method: str | Callable[..., Any],
) -> Captured:
  """Applies a Linen module, compiled, and captures its layers.

  Args:
    module: The module.
    variables: Its collections.
    *inputs: Arrays that the method takes.
    method: Its name, or a function of the module and the inputs.
  """

  @jax.jit
  def apply(variables: Any, *inputs: Any) -> Any:
    return module.apply(
      variables,
      *inputs,
      method=method,
      capture_intermediates=True,
      mutable=[_INTERMEDIATES],
    )

  with parity.highest_precision():
    result, captured = apply(dict(variables), *inputs)
  layers = {}
  made = fingerprints.flatten(captured.get(_INTERMEDIATES, {}))
  for path, calls in made.items():
    module_path = path.removesuffix('__call__').rstrip('/')
    layers[module_path] = np.asarray(jax.tree.leaves(calls)[0])
  return Captured(result=result, layers=layers)


@contextlib.contextmanager
def capture_torch(model: torch.nn.Module) -> Iterator[dict[str, np.ndarray]]:
  """Collects what each module made first, time before channels, by its name."""
  made: dict[str, np.ndarray] = {}

  def hook(name: str) -> Any:
    def keep(module: torch.nn.Module, inputs: Any, outputs: Any) -> None:
      del inputs
      first = outputs[0] if isinstance(outputs, tuple) else outputs
      if name and name not in made and torch.is_tensor(first):
        convolves = isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d))
        if convolves or getattr(module, 'channels_first', False):
          first = first.movedim(1, -1)
        made[name] = first.detach().float().cpu().numpy().copy()

    return keep

  handles = [
    module.register_forward_hook(hook(name))
    for name, module in model.named_modules()
  ]
  try:
    yield made
  finally:
    for handle in handles:
      handle.remove()


def compare(
  sheet: parity.Sheet,
  component: str,
  *,
  kind: str,
  variables: Mapping[str, Any],
  wanted: Mapping[str, np.ndarray],
  model: torch.nn.Module,
  got: Mapping[str, np.ndarray],
  compared_elsewhere: frozenset[str] = frozenset(),
) -> None:
  """Adds a check for every layer that ran.

  Args:
    sheet: Where to.
    component: Whose layers they are.
    kind: Of its bundle.
    variables: Linen's, to tell which modules hold weights.
    wanted: What `run_linen` captured.
    model: PyTorch's, for the same.
    got: What `capture_torch` collected.
    compared_elsewhere: Names of PyTorch's modules without a Linen module.

  Raises:
    ValueError: A layer with weights ran on one side alone.
  """
  rule = naming.rule_of(kind)
  wanted = {rule.name(path): made for path, made in wanted.items() if path}
  holders = {
    rule.name(path).rpartition('.')[0]
    for path in fingerprints.flatten(variables)
  }
  lonely = (holders & wanted.keys()) - got.keys()
  lonely |= {
    name
    for name in got.keys() - wanted.keys() - compared_elsewhere
    if any(True for _ in model.get_submodule(name).parameters(recurse=False))
  }
  if lonely:
    raise ValueError(
      f'{component}: {sorted(lonely)} ran in JAX or in PyTorch alone.'
    )
  for name in [name for name in got if name in wanted]:
    made, shape = got[name], wanted[name].shape
    if made.size == wanted[name].size:
      # Products that share a kernel are several axes there and one here.
      made = made.reshape(shape)
    sheet.values(
      component,
      name,
      wanted=wanted[name],
      got=made,
      relative=parity.LAYER_BOUND,
    )
