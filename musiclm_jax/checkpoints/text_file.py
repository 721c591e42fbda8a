# SPDX-License-Identifier: Apache-2.0
"""Text files that are whole or absent, whoever reads them meanwhile."""

from __future__ import annotations

import os

from musiclm_jax.checkpoints import buckets


def write(path: str | os.PathLike[str], text: str) -> None:
  """Writes UTF-8 under a hidden name beside it, and renames that."""
  path = buckets.folder(path)
  staging = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    staging.write_text(text, encoding='utf-8')
    staging.replace(path)
  finally:
    staging.unlink(missing_ok=True)
