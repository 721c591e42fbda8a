# SPDX-License-Identifier: Apache-2.0
"""The parity sheet as a page of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # The sheet writes itself through here.
  from musiclm_jax.export.parity import Check, Sheet

_HEAD = """# Parity

PyTorch on the CPU beside the JAX model that it was exported from on {backend},
both in float32, JAX at the highest matrix product precision. Compared on
{clips}; over noise 60 dB below full scale, so that no band of a log-mel is the
rounding of an FFT.

The relative error is the largest error over the largest value. Where codes
differ, the distances to both are closer than what the errors before them can
change, or the export fails. Programs and ONNX files, where there are any, are
compared with the modules that they were made of.

{passed} of {bounded} bounds hold; {reported} figures are reported without one.
"""

_TABLE = (
  '| what | shape | max. error | relative | equal | bound | holds |\n'
  '|---|---|---|---|---|---|---|\n'
)


def markdown(sheet: Sheet) -> str:
  """All checks, a table for each component."""
  bounded = [check for check in sheet.checks if check.bound is not None]
  parts = [
    _HEAD.format(
      clips=sheet.clips,
      backend=sheet.backend.upper(),
      passed=sum(check.passed for check in bounded),
      bounded=len(bounded),
      reported=len(sheet.checks) - len(bounded),
    )
  ]
  # A stage is compared alone, and again on codes of clips.
  for component in dict.fromkeys(check.component for check in sheet.checks):
    checks = [check for check in sheet.checks if check.component == component]
    fingerprint = sheet.fingerprints.get(component)
    origin = f'Fingerprint `{fingerprint}`.\n\n' if fingerprint else ''
    rows = ''.join(f'{_row(check)}\n' for check in checks)
    parts.append(f'## {component}\n\n{origin}{_TABLE}{rows}')
  return '\n'.join(parts)


def _row(check: Check) -> str:
  name = f'`{check.name}`' if ' ' not in check.name else check.name
  holds = '' if check.bound is None else 'yes' if check.passed else '**no**'
  cells = (
    f'{name} {check.note}'.strip(),
    ' × '.join(map(str, check.shape)),
    _number(check.max_abs_error),
    _number(check.max_relative_error),
    '' if check.equal_share is None else f'{100 * check.equal_share:.4g} %',
    check.bound or '',
    holds,
  )
  return f'| {" | ".join(cells)} |'


def _number(value: float | None) -> str:
  return '' if value is None else f'{value:.2g}'
