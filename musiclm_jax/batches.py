# SPDX-License-Identifier: Apache-2.0
"""What a batch is, one place for data converters, objectives and tests.

A batch is a flat dictionary of arrays whose first axis is the batch. It is
always the *global* batch: sharding is the trainer's business.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

# Audio batches (codec, semantic model, MuLan).
WAVEFORM = 'waveform'  # float32 [batch, samples], in [-1, 1]
SAMPLE_MASK = 'sample_mask'  # bool [batch, samples], False over padding

# Text beside the audio (MuLan); no token is valid where a row has no text.
TEXT_TOKENS = 'text_tokens'  # int32 [batch, length], ids of a text's pieces
TEXT_MASK = 'text_mask'  # bool [batch, length], False over padding

# Token batches (stages): whole rows, or the codes of each stream of one window.
TOKENS = 'tokens'  # int32 [batch, length]
LOSS_MASK = 'loss_mask'  # bool [batch, length], True where a loss is taken


def codes_key(stream: str) -> str:
  """Of a stream's codes: int32 [batch, frames, levels], from level 0 on."""
  return f'codes/{stream}'


def frame_mask_key(stream: str) -> str:
  """Of a mask, bool [batch, frames], where clips may lack frames at the end."""
  return f'frame_mask/{stream}'


@runtime_checkable
class BatchSource(Protocol):
  """Host batches in an order that is a pure function of (seed, position).

  The position is one integer, the number of global batches before. A run that
  restarts at position n sees what the uninterrupted run sees from there,
  whatever the number of processes was before and is now.
  """

  @property
  def batch_size(self) -> int:
    """Examples in one *global* batch."""
    ...

  def batches(
    self, start: int, *, process_index: int = 0, process_count: int = 1
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yields this process's rows of each global batch, from number `start` on.

    Process i gets the i-th of `process_count` equal runs of rows.
    """
    ...
