# SPDX-License-Identifier: Apache-2.0
"""The third stage: the first acoustic levels to the others.

AudioLM (Borsos et al., 2022), section III-C: levels 5 to 12 given 1 to 4, over
3 s. MusicLM follows it and does not say whether the stage sees MuLan: by
default it does not (ours).
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.streams import Exact, TokenStream


def fine(
  *,
  acoustic: TokenStream,
  conditions: Sequence[TokenStream] = (),
  num_coarse_levels: int = 4,
  window_seconds: Exact = 3,
) -> StageSpec:
  """The first `num_coarse_levels` acoustic levels to all that are left."""
  return StageSpec(
    name='fine',
    inputs=(
      *(Take(stream=stream) for stream in conditions),
      Take(stream=acoustic, count=num_coarse_levels),
    ),
    output=Take(stream=acoustic, first=num_coarse_levels),
    window_seconds=window_seconds,
  )
