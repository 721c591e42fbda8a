# SPDX-License-Identifier: Apache-2.0
"""A WAV of a known length that is written while it is made, for a player.

The header comes first and nothing is gone back to, so the file may be a pipe.
A player takes from it no faster than it plays, so a thread writes.
"""

from __future__ import annotations

import contextlib
import io
import wave
from collections.abc import Callable, Iterator
from concurrent import futures

import numpy as np
import soundfile
from jaxtyping import Float

Write = Callable[[Float[np.ndarray, ' _']], None]


def begin(file: io.IOBase, *, sample_rate_hz: int, num_samples: int) -> Write:
  """Writes the header; what is returned writes a part of the waveform."""
  # Not to the file itself: the writer goes back to mend what is cut off.
  header = io.BytesIO()
  with wave.open(header, 'wb') as writer:
    writer.setparams((1, 2, sample_rate_hz, num_samples, 'NONE', ''))
    writer.writeframesraw(b'')
    file.write(header.getvalue())

  def write(part: Float[np.ndarray, ' _']) -> None:
    samples = io.BytesIO()
    soundfile.write(
      samples,
      part,
      sample_rate_hz,
      format='RAW',
      subtype='PCM_16',
      endian='LITTLE',
    )
    file.write(samples.getvalue())
    file.flush()

  return write


@contextlib.contextmanager
def in_background(write: Write) -> Iterator[Write]:
  """`write`, but nobody waits for it until all parts are there.

  A player that goes away does not end the making either: what `write` raises
  is raised on leaving.
  """
  with futures.ThreadPoolExecutor(max_workers=1) as writer:
    written = []
    yield lambda part: written.append(writer.submit(write, part))
    for part in written:
      part.result()
