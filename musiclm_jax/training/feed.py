# SPDX-License-Identifier: Apache-2.0
"""Host batches onto the mesh, one after another from a position on."""

from __future__ import annotations

import time

import jax

from musiclm_jax import batches as batch_keys
from musiclm_jax.batches import BatchSource
from musiclm_jax.training.partitioning import Partitioner


class Feed:
  """The global batches of a source, placed on the devices in order."""

  def __init__(
    self, source: BatchSource, *, partitioner: Partitioner, start: int
  ):
    """Asks the source for this process's rows, from batch `start` on."""
    self.batch_size = source.batch_size
    self._partitioner = partitioner
    index, count = partitioner.process_rows(source.batch_size)
    self._rows = source.batches(start, process_index=index, process_count=count)
    self._position = start
    self._forms = None
    self._sample_rate_hz = getattr(source, 'sample_rate_hz', None)
    self._window_seconds = getattr(source, 'window_seconds', None)
    self.seconds_waited = 0.0

  def next(self) -> dict[str, jax.Array]:
    """The next batch; copying it goes on while the caller does other things."""
    began = time.monotonic()
    try:
      rows = next(self._rows)
    except StopIteration:
      raise ValueError(
        f'The training batches ended after {self._position}; training wants an'
        " endless source (random crops, not crops='fixed')."
      ) from None
    self.seconds_waited = time.monotonic() - began
    forms = {name: (a.shape[1:], str(a.dtype)) for name, a in rows.items()}
    self._forms = self._forms or forms
    if forms != self._forms:
      raise ValueError(
        f'Batch {self._position} holds {forms}, those before it {self._forms};'
        ' the step is compiled for one form, so pad or crop to it.'
      )
    self._position += 1
    return self._partitioner.place_batch(rows, batch_size=self.batch_size)

  @property
  def audio_seconds(self) -> float | None:
    """Of one global batch; `None` if its source states no rate and no window."""
    if self._window_seconds is not None:
      return float(self.batch_size * self._window_seconds)
    if self._sample_rate_hz is None or batch_keys.WAVEFORM not in self._forms:
      return None
    (num_samples, *_), _ = self._forms[batch_keys.WAVEFORM]
    return self.batch_size * num_samples / self._sample_rate_hz
