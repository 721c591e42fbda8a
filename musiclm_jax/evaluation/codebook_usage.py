# SPDX-License-Identifier: Apache-2.0
"""How a codebook is used: which codes occur, and how evenly.

Shapes: counts [codes], how often each code occurred.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodebookFigures:
  """How one codebook was used.

  Attributes:
    used_share: Codes that occurred, of all codes.
    entropy_bits: Of the distribution of codes; below the truth where there are
      not many more frames than codes.
    perplexity: 2 to the entropy.
  """

  used_share: float
  entropy_bits: float
  perplexity: float


def measure(counts: Int[np.ndarray, ' codes']) -> CodebookFigures:
  """The figures of these counts; at least one code must have occurred."""
  shares = counts[counts > 0] / counts.sum()
  entropy_bits = float(np.sum(shares * np.log2(1 / shares)))
  return CodebookFigures(
    used_share=shares.size / counts.size,
    entropy_bits=entropy_bits,
    perplexity=2**entropy_bits,
  )
