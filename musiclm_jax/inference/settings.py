# SPDX-License-Identifier: Apache-2.0
"""How the stages of a cascade draw.

MusicLM (Agostinelli et al., 2023), section 4.2, draws from the whole softmax
with temperatures 1.0, 0.95 and 0.4, picked by ear; it has neither top-k nor
top-p nor guidance, so the defaults have none.
"""

from __future__ import annotations

import dataclasses

from musiclm_jax.inference import sampling
from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.decoding import DecodingConfig, StageDecoder

# Caches grow three times at most, by 128 positions at least (ours): each size
# is one program to compile.
_NUM_SEGMENTS = 4
_SHORTEST_SEGMENT = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
  """What each stage draws with, and how far guidance goes.

  Attributes:
    semantic: Sampler of the first stage.
    coarse: Of the second.
    fine: Of the third.
    guidance_scale: Of classifier-free guidance in the stages that see the
      condition; None for none, twice as fast. It wants stages that were trained
      with conditions dropped.
  """

  semantic: sampling.Sampler = sampling.Categorical(temperature=1.0)
  coarse: sampling.Sampler = sampling.Categorical(temperature=0.95)
  fine: sampling.Sampler = sampling.Categorical(temperature=0.4)
  guidance_scale: float | None = None

  def apply(self, cascade: Cascade) -> Cascade:
    """The same stages, set to draw like this."""

    def of_stage(name: str) -> StageDecoder:
      decoder: StageDecoder = getattr(cascade, name)
      inputs = {take.stream.name for take in decoder.config.spec.inputs}
      is_conditioned = bool(inputs & cascade.condition_names)
      length = decoder.config.layout.length
      segment = -(-length // (_NUM_SEGMENTS * _SHORTEST_SEGMENT))
      return dataclasses.replace(
        decoder,
        decoding=DecodingConfig(
          sampler=getattr(self, name),
          guidance_scale=self.guidance_scale if is_conditioned else None,
          segment_length=segment * _SHORTEST_SEGMENT,
        ),
      )

    return dataclasses.replace(
      cascade,
      semantic=of_stage('semantic'),
      coarse=of_stage('coarse'),
      fine=of_stage('fine'),
    )
