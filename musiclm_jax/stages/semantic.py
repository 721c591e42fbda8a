# SPDX-License-Identifier: Apache-2.0
"""The first stage: conditions to semantic codes.

MusicLM (Agostinelli et al., 2023), section 3.2: p(S_t | S_<t, M_A), over 30 s.
AudioLM's (Borsos et al., 2022, section III-C) is the same with no condition.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.streams import Exact, TokenStream


def semantic(
  *,
  conditions: Sequence[TokenStream],
  semantic: TokenStream,
  distinct_share: Exact | None = None,
  window_seconds: Exact = 30,
) -> StageSpec:
  """Conditions (MuLan in MusicLM, none in AudioLM) to semantic codes.

  With `distinct_share` repeats of them are removed: see `Take`.
  """
  return StageSpec(
    name='semantic',
    inputs=tuple(Take(stream=stream) for stream in conditions),
    output=Take(stream=semantic, distinct_share=distinct_share),
    window_seconds=window_seconds,
  )
