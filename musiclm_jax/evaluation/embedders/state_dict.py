# SPDX-License-Identifier: Apache-2.0
"""State dicts of PyTorch by path: weights that come with no package."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import safetensors.numpy


def read(
  path: str | os.PathLike[str], *, of: str
) -> tuple[dict[str, np.ndarray], pathlib.Path]:
  """The tensors of a file by name, and where it is.

  Args:
    path: Of .safetensors, or of what `torch.save` wrote; that one wants PyTorch.
    of: The network, for messages.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise ValueError(f'{path} is no file; name the weights of {of}.')
  if path.suffix == '.safetensors':
    return safetensors.numpy.load_file(path), path
  from musiclm_jax.export import state_dicts  # PyTorch, of the extra `torch`.

  return state_dicts.read(path), path


def select(
  weights: Mapping[str, np.ndarray],
  names: Iterable[str],
  *,
  path: pathlib.Path,
  of: str,
) -> dict[str, np.ndarray]:
  """Those of these names, in float32.

  Raises:
    ValueError: One is not there.
  """
  names = list(names)
  missing = [name for name in names if name not in weights]
  if missing:
    raise ValueError(
      f'{path} has no {missing[0]!r}, which a state dict of {of} has; it holds'
      f' {", ".join(list(weights)[:3])} …'
    )
  return {name: np.asarray(weights[name], np.float32) for name in names}
