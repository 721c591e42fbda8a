# SPDX-License-Identifier: Apache-2.0
"""The codec's decoder and MuLan's text tower in ONNX.

Each file is run by onnxruntime and compared with its module, at sizes other
than those it was traced with, in the parity sheet.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Collection

import onnx  # noqa: F401  torch.onnx asks for it and onnxscript, but late.
import onnxruntime
import onnxscript  # noqa: F401
import torch
from torch import Tensor

from musiclm_jax.export import parity, programs

FOLDER = 'onnx'
OPSET = 20

_NAMES = ('codec_decode', 'mulan_text')


def write(
  directory: pathlib.Path, *, places: Collection[str], sheet: parity.Sheet
) -> None:
  """Writes the files of an exported folder's components into it.

  Args:
    directory: The exported folder.
    places: Of its components.
    sheet: Where what onnxruntime makes is compared with the modules.

  Raises:
    ValueError: There is nothing to write, or a file makes something of another
      shape or type than its module.
  """
  folder = directory / FOLDER
  folder.mkdir()
  parts = [place for place in places if place in ('codec', 'mulan')]
  if not parts:
    raise ValueError('ONNX is made of the codec and of MuLan; export either.')
  for program in programs.of_folder(directory, places=parts):
    if program.name in _NAMES:
      path = folder / f'{program.name}.onnx'
      torch.onnx.export(
        program.module,
        program.example(2, 7),
        path,
        input_names=list(program.axes),
        output_names=list(program.outputs),
        dynamic_shapes=program.dynamic_shapes(),
        opset_version=OPSET,
        external_data=False,
        dynamo=True,
        verbose=False,
      )
      programs.compare(
        sheet, FOLDER, program=program, loaded=runner(path), in_place=False
      )


def runner(path: pathlib.Path) -> Callable[..., Tensor]:
  """What the file computes, tensors to a tensor."""
  session = onnxruntime.InferenceSession(
    path, providers=['CPUExecutionProvider']
  )
  names = [argument.name for argument in session.get_inputs()]

  def run(*inputs: Tensor) -> Tensor:
    arrays = {name: t.numpy() for name, t in zip(names, inputs, strict=True)}
    return torch.from_numpy(session.run(None, arrays)[0])

  return run
