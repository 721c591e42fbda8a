# SPDX-License-Identifier: Apache-2.0
"""PROMPTS → EMBEDDINGS OVER TIME, one row for each piece that is asked for.

Shapes: embed = the joint space of texts and audio.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from musiclm_jax.conditioning.base import Conditioner
from musiclm_jax.inference.request import Request
from musiclm_jax.streams import Exact


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
  """What one row is to sound like.

  Attributes:
    label: Its prompt, in words.
    sections: An embedding, [embed], by the tick from which on it holds; in
      order, the first at 0.
  """

  label: str
  sections: Mapping[int, np.ndarray]


def pieces(
  request: Request,
  *,
  conditioner: Conditioner | None,
  ticks_of: Callable[[Exact], int],
) -> list[Piece]:
  """The rows of a request, all samples of the first prompt first.

  Args:
    request: What is asked for.
    conditioner: Embeds texts and audio; None of a model without a condition.
    ticks_of: Whole ticks that hold so many seconds.

  Raises:
    ValueError: A prompt is wanted and there is none, or the reverse.
  """
  _require_prompt(request, wanted=conditioner is not None)
  if conditioner is None:
    label = 'continuation' if request.is_continuation else 'unprompted'
    found = [Piece(label=label, sections={0: np.zeros(0, np.float32)})]
  elif request.prompts is not None:
    found = _of_texts(request, conditioner=conditioner, ticks_of=ticks_of)
  else:
    heard, label = request.prompt_audio, 'audio'
    if heard is None:
      heard, label = request.continue_from[None], 'continuation'
    embeddings = conditioner.embed_audio(
      heard, sample_rate_hz=request.sample_rate_hz
    )
    found = [Piece(label=label, sections={0: row}) for row in embeddings]
  return [piece for piece in found for _ in range(request.num_samples)]


def together(
  sections: Sequence[Mapping[int, Any]],
) -> dict[tuple[int, ...], list[int]]:
  """The rows that change at the same ticks, by these ticks."""
  groups = collections.defaultdict(list)
  for row, starts in enumerate(sections):
    groups[tuple(starts)].append(row)
  return dict(groups)


def _require_prompt(request: Request, *, wanted: bool) -> None:
  is_prompted = request.prompts is not None or request.prompt_audio is not None
  if is_prompted and not wanted:
    raise ValueError(
      'The model has no conditioner, as an AudioLM, so it takes no prompt; leave'
      ' it out, or give `continue_from`.'
    )
  if wanted and not is_prompted and not request.is_continuation:
    raise ValueError(
      'There is no prompt; give `prompts`, `prompt_audio` or `continue_from`.'
    )
  sampling = request.sampling
  if not wanted and sampling and sampling.guidance_scale is not None:
    raise ValueError(
      'Guidance goes away from what the stages make without their condition, and'
      ' the model has none; leave it out.'
    )


def _of_texts(
  request: Request,
  *,
  conditioner: Conditioner,
  ticks_of: Callable[[Exact], int],
) -> list[Piece]:
  texts = [text for prompt in request.prompts for text in prompt.texts]
  embeddings = iter(conditioner.embed_text(texts))
  end = ticks_of(request.seconds)
  found = []
  for prompt in request.prompts:
    starts = map(ticks_of, prompt.starts_seconds)
    # Of two that begin within one tick, the later.
    sections = {start: next(embeddings) for start in starts}
    sections = {start: sections[start] for start in sections if start < end}
    found.append(Piece(label=prompt.label, sections=sections))
  return found
