# SPDX-License-Identifier: Apache-2.0
"""What was found, as a page of tables for people and as JSON for programs."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from musiclm_jax.checkpoints import text_file
from musiclm_jax.evaluation.bootstrap import Estimate
from musiclm_jax.evaluation.codebook_usage import CodebookFigures


def write(
  directory: pathlib.Path, *, name: str, fields: Mapping[str, Any], text: str
) -> None:
  """Writes `name`.json and `name`.md.

  Args:
    directory: Where to; made if absent.
    name: Of the files, without suffix.
    fields: All figures; an infinity becomes null, for JSON has none.
    text: The page.
  """
  directory.mkdir(parents=True, exist_ok=True)
  text_file.write(
    directory / f'{name}.json', json.dumps(_finite(fields), allow_nan=False)
  )
  text_file.write(directory / f'{name}.md', text)


def table(rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table; the first row is its head."""
  lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
  lines.insert(1, '|' + ' --- |' * len(rows[0]))
  return '\n'.join(lines)


def show(estimate: Estimate, *, sign: str = '') -> str:
  """'0.123 [0.100, 0.150]'; with `sign='+'` every number has its sign."""
  mean, low, high = (
    f'{value:{sign}.3f}'
    for value in (estimate.mean, estimate.low, estimate.high)
  )
  return f'{mean} [{low}, {high}]'


def codebooks_table(codebooks: Sequence[CodebookFigures]) -> str:
  """How each level was used, coarsest first."""
  rows = [['level', 'codes used', 'entropy, bits', 'perplexity']]
  for level, figures in enumerate(codebooks, start=1):
    rows.append(
      [
        str(level),
        f'{figures.used_share:.1%}',
        f'{figures.entropy_bits:.2f}',
        f'{figures.perplexity:.1f}',
      ]
    )
  return table(rows)


def _finite(value: Any) -> Any:
  """JSON has no infinities: null in their place."""
  if isinstance(value, Mapping):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(item) for item in value]
  return (
    None if isinstance(value, float) and not math.isfinite(value) else value
  )
