# SPDX-License-Identifier: Apache-2.0
"""SI-SDR: how far a copy is from its original, sample by sample, in decibels.

SDR – half-baked or well done? (Le Roux et al., 2019), equation 3. Loudness does
not count, phase does: a codec that is trained against discriminators may sound
better than one with a higher SI-SDR.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float


def si_sdr(
  reference: Float[np.ndarray, ' samples'],
  estimate: Float[np.ndarray, ' estimated'],
  *,
  sample_rate_hz: int | None = None,
) -> float:
  """Scale-invariant signal-to-distortion ratio of one clip.

  Both are taken without their means, in float64, over all samples. The
  reference is scaled to lie as near to the estimate as it can; the figure is the
  energy of that over the energy of what is left. It is not averaged over
  frames. Plus infinity for an estimate that is the reference times a number,
  minus infinity for one that is silent or has nothing of the reference.

  Args:
    reference: The original; not constant.
    estimate: Its copy, in step with it and as long.
    sample_rate_hz: Not used; every metric of a clip takes it.
  """
  if reference.shape != estimate.shape:
    raise ValueError(
      f'The reference has {reference.size} samples and the estimate'
      f' {estimate.size}; cut them to one length.'
    )
  reference = reference - np.mean(reference, dtype=np.float64)
  estimate = estimate - np.mean(estimate, dtype=np.float64)
  energy = np.dot(reference, reference)
  if energy == 0:
    raise ValueError('The reference is silent, so nothing is to be compared.')
  target = np.dot(estimate, reference) / energy * reference
  kept, lost = np.sum(target**2), np.sum((estimate - target) ** 2)
  if kept == 0:
    return -math.inf
  return 10 * math.log10(kept / lost) if lost > 0 else math.inf
