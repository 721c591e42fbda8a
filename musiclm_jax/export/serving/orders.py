# SPDX-License-Identifier: Apache-2.0
"""The body of a request, read and checked."""

from __future__ import annotations

import fractions
import math
import secrets
from typing import Literal

import pydantic

from .scheduler import Order
from .settings import Settings

_NUM_SEEDS = 2**32


class Refused(Exception):
  """An answer that is not audio.

  Attributes:
    status: Of HTTP.
    message: One line for people.
    headers: Beside it.
  """

  def __init__(
    self, status: int, message: str, headers: dict[str, str] | None = None
  ):
    super().__init__(message)
    self.status = status
    self.message = message
    self.headers = headers


class GenerateBody(pydantic.BaseModel):
  """What POST /generate takes."""

  model_config = pydantic.ConfigDict(extra='forbid', strict=True)

  prompt: str = pydantic.Field(
    description='The music in words.', examples=['a slow waltz on solo piano']
  )
  seconds: float = pydantic.Field(
    10.0, gt=0, allow_inf_nan=False, description='Length of each piece.'
  )
  seed: int | None = pydantic.Field(
    None,
    ge=0,
    lt=_NUM_SEEDS,
    description='Piece j draws from seed + j. Drawn by the server if left out.',
  )
  num_samples: int = pydantic.Field(
    1, ge=1, description='Pieces; several come as one ZIP.'
  )
  guidance: float | None = pydantic.Field(
    None,
    ge=0,
    le=100,
    allow_inf_nan=False,
    description='Scale of classifier-free guidance, 1 for none; the model has'
    ' its own.',
  )
  format: Literal['wav', 'flac'] = 'wav'
  stream: bool = pydantic.Field(
    False, description='Whether to send audio as it is made; one piece only.'
  )

  def order(self) -> Order:
    """What is to be made."""
    seed = self.seed
    if seed is None:
      seed = secrets.randbelow(_NUM_SEEDS - self.num_samples)
    return Order(
      prompt=self.prompt.strip(),
      seconds=self.seconds,
      seeds=tuple(range(seed, seed + self.num_samples)),
      guidance=self.guidance,
    )

  def length(self, *, sample_rate_hz: int) -> int:
    """Samples of each piece: the last may be begun only."""
    return math.ceil(fractions.Fraction(str(self.seconds)) * sample_rate_hz)


def read(content: bytes, *, settings: Settings) -> GenerateBody:
  """The checked body.

  Raises:
    Refused: It is not JSON, or asks for what is not there or not allowed.
  """
  try:
    body = GenerateBody.model_validate_json(content)
  except pydantic.ValidationError as error:
    first = error.errors(include_url=False, include_context=False)[0]
    if first['type'] == 'json_invalid':
      raise Refused(400, f'The body is not JSON: {first["msg"]}.') from error
    field = '.'.join(map(str, first['loc'])) or 'the body'
    raise Refused(422, f'{field}: {first["msg"]}.') from error
  if wrong := _beyond(body, settings):
    raise Refused(422, wrong)
  return body


def _beyond(body: GenerateBody, settings: Settings) -> str | None:
  """What the server does not allow; None if it allows all of it."""
  if not body.prompt.strip():
    return 'prompt: say in words what to play.'
  for name, value, most in (
    ('prompt', len(body.prompt), settings.max_prompt_characters),
    ('seconds', body.seconds, settings.max_seconds),
    ('num_samples', body.num_samples, settings.max_samples),
  ):
    if value > most:
      unit = ' characters' if name == 'prompt' else ''
      return f'{name}: {value:g}{unit} are asked for; at most {most:g}.'
  if (body.seed or 0) + body.num_samples > _NUM_SEEDS:
    return f'seed: {body.seed} + num_samples goes beyond {_NUM_SEEDS}.'
  if body.stream and body.num_samples > 1:
    return 'stream: one piece at a time; leave out num_samples.'
  return None
