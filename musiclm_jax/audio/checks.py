# SPDX-License-Identifier: Apache-2.0
"""What is asked of waveforms that come in from outside, in one place."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from musiclm_jax.metrics import accumulation_dtype


def require_waveform(
  waveform: Any, *, axes: str = 'batch, samples'
) -> Float[np.ndarray, ...]:
  """The waveform as an array; a `ValueError` unless it is audio.

  Args:
    waveform: Any array, or what NumPy makes one of.
    axes: Its axes, as the message names them.
  """
  waveform = np.asarray(waveform)
  if waveform.ndim != len(axes.split(', ')) or not waveform.size:
    raise ValueError(
      f'A waveform is [{axes}] with at least one sample, not'
      f' {list(waveform.shape)}.'
    )
  # JAX counts bfloat16 to the floats, NumPy does not.
  if not jnp.issubdtype(waveform.dtype, jnp.floating):
    raise ValueError(
      f'A waveform is of floats in [-1, 1], not {waveform.dtype}; divide'
      ' integers by their full scale.'
    )
  waveform = waveform.astype(accumulation_dtype(waveform.dtype), copy=False)
  if not np.isfinite(waveform).all():
    raise ValueError(
      'The waveform holds samples that are NaN or infinite; repair them.'
    )
  return waveform


def require_rate(sample_rate_hz: Any) -> int:
  """The rate; a `ValueError` unless it is a whole number above 0."""
  whole = isinstance(sample_rate_hz, (int, np.integer))
  if not whole or isinstance(sample_rate_hz, bool) or sample_rate_hz <= 0:
    raise ValueError(
      'An array of samples says nothing of its rate: give sample_rate_hz, a'
      f' whole number above 0, not {sample_rate_hz!r}.'
    )
  return int(sample_rate_hz)
