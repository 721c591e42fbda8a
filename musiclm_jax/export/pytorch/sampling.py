# SPDX-License-Identifier: Apache-2.0
"""Logits to codes, each row by its own key.

Top-k: Fan et al. (2018), section 5.1. Top-p: Holtzman et al., "The Curious Case
of Neural Text Degeneration" (2020), section 3.1. Guidance: Ho and Salimans,
"Classifier-Free Diffusion Guidance" (2021), equation 6, on logits. The default
temperatures are MusicLM's (Agostinelli et al., 2023), section 4.2.

Shapes: logits [batch, codes], keys [batch, 2], codes [batch].
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from . import threefry
from .configuration import Config


@dataclasses.dataclass(frozen=True)
class Sampler:
  """How one stage draws.

  Attributes:
    temperature: Divides the logits; below 1 likely codes become likelier, and 0
      takes the likeliest, the first of equals.
    top_k: How many of the likeliest codes may be drawn; None for all. Codes
      that tie with the last of them may be drawn too.
    top_p: The fewest of the likeliest codes whose probability reaches this may
      be drawn; None for all.
  """

  temperature: float = 1.0
  top_k: int | None = None
  top_p: float | None = None

  def __post_init__(self):
    if not self.temperature >= 0:
      raise ValueError(
        f'temperature is {self.temperature}; above 0 to draw, or 0 for the'
        ' likeliest code.'
      )
    if self.top_k is not None and self.top_k < 1:
      raise ValueError(f'top_k is {self.top_k}; at least 1, or None for all.')
    if self.top_p is not None and not 0 < self.top_p <= 1:
      raise ValueError(f'top_p is {self.top_p}; within (0, 1], or None.')

  def __call__(self, logits: Tensor, keys: Tensor) -> Tensor:
    if self.temperature == 0:
      return logits.argmax(dim=-1)
    logits = logits / self.temperature
    if self.top_k is not None:
      logits = keep_top_k(logits, k=self.top_k)
    if self.top_p is not None:
      logits = keep_top_p(logits, p=self.top_p)
    return threefry.categorical(keys, logits)


def keep_top_k(logits: Tensor, *, k: int) -> Tensor:
  """The k largest of each row, the others -inf."""
  k = min(k, logits.shape[-1])
  return _keep_from(logits, logits.topk(k).values[:, -1:])


def keep_top_p(logits: Tensor, *, p: float) -> Tensor:
  """The fewest of each row whose probability is at least p, others -inf."""
  ordered = logits.sort(dim=-1, descending=True).values
  probability = ordered.softmax(dim=-1)
  before = probability.cumsum(dim=-1) - probability
  # The first always stays: nothing comes before it.
  kept = ordered.masked_fill(before >= p, torch.inf)
  return _keep_from(logits, kept.amin(dim=-1, keepdim=True))


def guided(
  conditional: Tensor, unconditional: Tensor, *, scale: float
) -> Tensor:
  """Away from the unconditional logits; a scale of 1 is no guidance."""
  return unconditional + scale * (conditional - unconditional)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How the three stages draw.

  Attributes:
    semantic: Of the first stage.
    coarse: Of the second.
    fine: Of the third.
    guidance: Scale of classifier-free guidance in the stages that see the
      prompt; None or 1 for none, twice as fast. It wants stages that were
      trained with prompts dropped.
  """

  semantic: Sampler = Sampler(1.0)
  coarse: Sampler = Sampler(0.95)
  fine: Sampler = Sampler(0.4)
  guidance: float | None = None

  @classmethod
  def of_config(cls, config: Config) -> Settings:
    """What the `config.json` of a model says; else the defaults."""
    own = getattr(config, 'sampling', None)
    if own is None:
      return cls()
    return cls(
      semantic=Sampler(**vars(own.semantic)),
      coarse=Sampler(**vars(own.coarse)),
      fine=Sampler(**vars(own.fine)),
      guidance=own.guidance_scale,
    )


def _keep_from(logits: Tensor, least: Tensor) -> Tensor:
  """-inf below `least`, [batch, 1]."""
  return logits.masked_fill(logits < least, -torch.inf)
