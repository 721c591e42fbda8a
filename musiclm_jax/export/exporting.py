# SPDX-License-Identifier: Apache-2.0
"""Exports a model, compares it with JAX, and keeps it if it is the same."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Mapping

from musiclm_jax.export import folder as folders
from musiclm_jax.export import (
  hosting,
  model_card,
  parity,
  parity_codec,
  parity_mulan,
  parity_music_lm,
  parity_semantic,
  parity_stages,
  programs,
  reference,
  stablehlo,
)
from musiclm_jax.export.clips import Clips
from musiclm_jax.inference import demo

# By the kind of the bundle.
COMPARISONS: Mapping[str, parity.Comparison] = {
  'codec': parity_codec.compare,
  'semantic': parity_semantic.compare,
  'conditioner': parity_mulan.compare,
  'stage': parity_stages.compare,
}


def export(
  model: str | os.PathLike[str],
  output: str | os.PathLike[str],
  *,
  clips: Clips,
  license: str = model_card.UNKNOWN_LICENSE,
  with_programs: bool = False,
  with_onnx: bool = False,
) -> parity.Sheet:
  """Writes `output`, or only the sheet of what differs, to `output.parity`.

  Args:
    model: The folder of a `music_lm.json`, or that of one bundle, or 'demo'.
    output: A folder that is not there yet.
    clips: What both sides are compared on.
    license: Of the weights, for the model card.
    with_programs: Whether `programs/` is written too.
    with_onnx: Whether `onnx/` is.

  Returns:
    The parity sheet, which also lies in the folder.

  Raises:
    ValueError: The model cannot be read, or a bound does not hold.
    ModuleNotFoundError: What writes or checks ONNX is not installed.
  """
  if with_onnx:
    # Here, since nothing else needs its packages, and before minutes of work.
    from musiclm_jax.export import onnx_files
  model = demo.resolve(model)
  read = folders.read(model)
  bundles = read.bundles
  sheet = parity.Sheet(
    clips=clips.about,
    fingerprints={place: found.fingerprint for place, found in bundles.items()},
  )
  with folders.staged(output) as directory:
    folders.write(directory, read)
    compared = {place: reference.plain(b) for place, b in bundles.items()}
    for place, found in compared.items():
      COMPARISONS[found.kind](
        sheet, place, found=found, folder=directory / place, clips=clips
      )
    if read.sampling is not None:
      parity_music_lm.compare(
        sheet,
        bundles=compared,
        sampling=read.sampling,
        directory=directory,
        clips=clips,
      )
    _require_passed(sheet, output)  # Before what takes minutes more.
    if with_programs:
      programs.write(directory, places=bundles, sheet=sheet)
    if with_onnx:
      onnx_files.write(directory, places=bundles, sheet=sheet)
    _require_passed(sheet, output)
    sheet.write(directory)
    if hosting.is_served(bundles):
      card = model_card.card(bundles, sheet=sheet, model=model, license=license)
      hosting.write(directory, card=card)
  _forget(_failed(output))
  return sheet


def _require_passed(
  sheet: parity.Sheet, output: str | os.PathLike[str]
) -> None:
  """Raises unless all bounds hold, and leaves the sheet that says why."""
  try:
    sheet.require_passed()
  except ValueError as error:
    folder = _failed(output)
    folder.mkdir(exist_ok=True)
    sheet.write(folder)
    raise ValueError(
      f'{error} No model was written; every figure is in'
      f' {folder / parity.MARKDOWN}.'
    ) from error


def _failed(output: str | os.PathLike[str]) -> pathlib.Path:
  """Where the sheet of an export that failed lies."""
  return pathlib.Path(f'{os.path.abspath(output)}.parity')


def _forget(folder: pathlib.Path) -> None:
  """Removes the sheet of an earlier try, and the folder if it was all."""
  for name in (parity.JSON, parity.MARKDOWN):
    (folder / name).unlink(missing_ok=True)
  with contextlib.suppress(OSError):  # Not there, or others keep files in it.
    folder.rmdir()


def export_stablehlo(
  model: str | os.PathLike[str], output: str | os.PathLike[str]
) -> None:
  """Writes a folder for JAX hosts, without PyTorch's; or nothing.

  Raises:
    ValueError: The model cannot be read.
  """
  read = folders.read(demo.resolve(model))
  with folders.staged(output) as directory:
    stablehlo.write(directory, read)
