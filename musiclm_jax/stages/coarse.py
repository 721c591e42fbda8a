# SPDX-License-Identifier: Apache-2.0
"""The second stage: semantic codes to the first acoustic levels.

MusicLM (Agostinelli et al., 2023), section 3.2: p(A_t | A_<t, S, M_A) for
residual levels 1 to 4, over 10 s. AudioLM's (Borsos et al., 2022, section
III-C) is the same with no condition. The order of the segments is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.streams import Exact, TokenStream


def coarse(
  *,
  conditions: Sequence[TokenStream],
  semantic: TokenStream,
  acoustic: TokenStream,
  num_levels: int = 4,
  distinct_share: Exact | None = None,
  window_seconds: Exact = 10,
) -> StageSpec:
  """Conditions and semantic codes to the first `num_levels` acoustic levels.

  With `distinct_share` repeats of semantic codes are removed: see `Take`.
  """
  return StageSpec(
    name='coarse',
    inputs=(
      *(Take(stream=stream) for stream in conditions),
      Take(stream=semantic, distinct_share=distinct_share),
    ),
    output=Take(stream=acoustic, count=num_levels),
    window_seconds=window_seconds,
  )
