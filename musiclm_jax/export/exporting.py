# SPDX-License-Identifier: Apache-2.0
"""Exports a model, compares it with JAX, and keeps it if it is the same."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping

from musiclm_jax.export import folder as folders
from musiclm_jax.export import (
  parity,
  parity_codec,
  parity_mulan,
  parity_music_lm,
  parity_semantic,
  parity_stages,
)
from musiclm_jax.export.clips import Clips

# By the kind of the bundle.
COMPARISONS: Mapping[str, Callable[..., None]] = {
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
) -> parity.Sheet:
  """Writes `output`, or nothing.

  Args:
    model: The folder of a `music_lm.json`, or that of one bundle.
    output: A folder that is not there yet.
    clips: What both sides are compared on.

  Returns:
    The parity sheet, which also lies in the folder.

  Raises:
    ValueError: The model cannot be read, or a bound does not hold.
  """
  bundles = folders.read_bundles(model)
  sheet = parity.Sheet(
    clips=clips.about,
    fingerprints={place: found.fingerprint for place, found in bundles.items()},
  )
  with folders.staged(output) as directory:
    folders.write(directory, bundles)
    for place, found in bundles.items():
      COMPARISONS[found.kind](
        sheet, place, found=found, folder=directory / place, clips=clips
      )
    if len(bundles) > 1:
      parity_music_lm.compare(
        sheet, bundles=bundles, directory=directory, clips=clips
      )
    sheet.require_passed()
    sheet.write(pathlib.Path(directory))
  return sheet
