# SPDX-License-Identifier: Apache-2.0
"""Weights that others saved with PyTorch, as arrays."""

from __future__ import annotations

import os
import pickle
import re

import numpy as np
import torch

# Beside weights, a checkpoint may have rates of its optimizer as NumPy's
# numbers, whose maker NumPy 2 has moved.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS = [
  (_SCALAR, 'numpy.core.multiarray.scalar'),
  (_SCALAR, 'numpy._core.multiarray.scalar'),
  np.dtype,
  *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
]


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The tensors of a state dict, by name; nothing in the file is run.

  Raises:
    ValueError: The file is no state dict.
  """
  try:
    with torch.serialization.safe_globals(_NUMBERS):
      found = torch.load(path, map_location='cpu', weights_only=True)
  except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
    code = re.search(r'GLOBAL (\S+)', str(error))
    why = f' (it wants to run {code[1]})' if code else ''
    raise ValueError(
      f'{path} is no file of weights that PyTorch saved{why}; give a state dict.'
    ) from error
  found = found.get('state_dict', found) if isinstance(found, dict) else found
  if not isinstance(found, dict) or not all(
    isinstance(tensor, torch.Tensor) for tensor in found.values()
  ):
    raise ValueError(
      f'{path} holds more than a state dict; save `model.state_dict()`.'
    )
  return {name: tensor.numpy() for name, tensor in found.items()}
