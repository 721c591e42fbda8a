# SPDX-License-Identifier: Apache-2.0
"""A SavedModel that hears, in a process of its own.

  python -m musiclm_jax.data.saved_model FOLDER OUTPUT

reads pickled waveforms from its input and writes what the model makes of each,
pickled too, until the input ends. So the process that asks needs no TensorFlow.
The model is called as TRILL is: with `samples` and `sample_rate`, for a dict in
which OUTPUT is.
"""

from __future__ import annotations

import os
import pickle
import sys

SAMPLE_RATE_HZ = 16_000


def main(folder: str, output: str) -> None:
  """Answers until the input ends."""
  answers = os.fdopen(os.dup(sys.stdout.fileno()), 'wb')
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Whoever else prints.
  import tensorflow as tf

  model = tf.saved_model.load(folder)
  while sys.stdin.buffer.peek(1):
    waveform = pickle.load(sys.stdin.buffer)
    found = model(samples=waveform[None], sample_rate=SAMPLE_RATE_HZ)
    if output not in found:
      raise ValueError(
        f'{folder} has no output {output!r}; it has {", ".join(found)}.'
      )
    pickle.dump(found[output].numpy()[0], answers)  # [frames, dim]
    answers.flush()


if __name__ == '__main__':
  main(*sys.argv[1:])
