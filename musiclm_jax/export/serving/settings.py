# SPDX-License-Identifier: Apache-2.0
"""What a server allows, and how it forms batches."""

from __future__ import annotations

import dataclasses
from typing import Any


def _setting(default: int | float, about: str) -> Any:
  return dataclasses.field(default=default, metadata={'about': about})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Limits of a server; each is a flag of its command.

  Attributes:
    tile: Rows of every batch. A batch with fewer is filled up, so that one
      piece is computed by the same program whatever its mates are.
    batch_wait_seconds: How long an idle server waits for mates.
    max_waiting: Requests in the queue; further ones are refused.
    timeout_seconds: From a request's arrival until it is made, and a stream
      sent; an answer that has begun has 30 s to be sent in any case.
    stop_seconds: For requests to be served after the server is told to stop;
      then the rest is refused. Less than the 30 s after which Kubernetes kills.
    max_prompt_characters: Of a prompt.
    max_seconds: Of a piece.
    max_samples: Pieces of one request.
    max_body_bytes: Of a request.
  """

  tile: int = _setting(4, 'rows of every batch; a smaller one is filled up')
  batch_wait_seconds: float = _setting(0.005, 'to wait for mates of a batch')
  max_waiting: int = _setting(16, 'requests in the queue')
  timeout_seconds: float = _setting(300.0, 'from arrival until it is made')
  stop_seconds: int = _setting(25, 'to serve on when told to stop')
  max_prompt_characters: int = _setting(500, 'of a prompt')
  max_seconds: float = _setting(30.0, 'of a piece')
  max_samples: int = _setting(4, 'pieces of one request')
  max_body_bytes: int = _setting(16384, 'of a request')

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if value < 0 or (value == 0 and field.name != 'batch_wait_seconds'):
        raise ValueError(f'{field.name} is {value}; give more than 0.')
    if self.max_samples > self.tile:
      raise ValueError(
        f'max_samples is {self.max_samples}, but a batch has {self.tile} rows;'
        ' a request must fit into one: lower max_samples or raise tile.'
      )
