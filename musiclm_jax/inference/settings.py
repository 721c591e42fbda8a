# SPDX-License-Identifier: Apache-2.0
"""How the stages of a cascade draw.

MusicLM (Agostinelli et al., 2023), section 4.2, draws from the whole softmax
with temperatures 1.0, 0.95 and 0.4, picked by ear; it has neither top-k nor
top-p nor guidance, so the defaults have none.

A model may state its own: the field "sampling" of its folder's JSON is a
`SamplingConfig` of `Categorical` samplers, and the defaults if it is not there.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from musiclm_jax.checkpoints import config_json
from musiclm_jax.inference import sampling
from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.decoding import DecodingConfig, StageDecoder
from musiclm_jax.stages.spec import STAGES

# Caches grow three times at most, by 128 positions at least (ours): each size
# is one program to compile.
_NUM_SEGMENTS = 4
_SHORTEST_SEGMENT = 128

_FIELD = 'sampling'


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
  """What each stage draws with, and how far guidance goes.

  Attributes:
    semantic: Sampler of the first stage.
    coarse: Of the second.
    fine: Of the third.
    guidance_scale: Of classifier-free guidance in the stages that see the
      condition; None or 1 for none, twice as fast. It wants stages that were
      trained with conditions dropped.
  """

  semantic: sampling.Sampler = sampling.Categorical(temperature=1.0)
  coarse: sampling.Sampler = sampling.Categorical(temperature=0.95)
  fine: sampling.Sampler = sampling.Categorical(temperature=0.4)
  guidance_scale: float | None = None

  def apply(self, cascade: Cascade) -> Cascade:
    """The same stages, set to draw like this."""
    guidance_scale = None if self.guidance_scale == 1 else self.guidance_scale

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
          guidance_scale=guidance_scale if is_conditioned else None,
          segment_length=segment * _SHORTEST_SEGMENT,
        ),
      )

    return dataclasses.replace(
      cascade,
      semantic=of_stage('semantic'),
      coarse=of_stage('coarse'),
      fine=of_stage('fine'),
    )


def to_fields(config: SamplingConfig) -> dict[str, Any]:
  """What a model's JSON says of it: nothing of the defaults.

  Raises:
    ValueError: A sampler is no `Categorical`.
  """
  _require_numbers(config, where='A model')
  if config == SamplingConfig():
    return {}
  return {_FIELD: config_json.to_json(config)}


def of_fields(
  fields: Mapping[str, Any], *, path: str | os.PathLike[str]
) -> SamplingConfig:
  """What the JSON of a model, read from `path`, says.

  Raises:
    ValueError: It is not what `to_fields` writes.
  """
  if _FIELD not in fields:
    return SamplingConfig()
  try:
    config = config_json.from_json(fields[_FIELD])
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'{path}: {_FIELD!r} cannot be read ({error}); write it anew.'
    ) from error
  _require_numbers(config, where=str(path))
  return config


def _require_numbers(config: Any, *, where: str) -> None:
  """Raises unless flags can change it and PyTorch can read it."""
  samplers = [getattr(config, name, None) for name in STAGES]
  if not isinstance(config, SamplingConfig) or not all(
    isinstance(sampler, sampling.Categorical) for sampler in samplers
  ):
    raise ValueError(
      f'{where} states its sampling as a SamplingConfig of three Categorical;'
      f' got {config!r}.'
    )
