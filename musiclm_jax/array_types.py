# SPDX-License-Identifier: Apache-2.0
"""Names for the arrays that cross package borders, as jaxtyping types.

Production never checks them. The test run does, with
`--jaxtyping-packages=musiclm_jax,beartype.beartype`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Array = jax.Array | np.ndarray

Waveform = Float[Array, 'batch samples']  # in [-1, 1]
Latents = Float[Array, 'batch frames embed']  # before quantization
Codes = Int[Array, 'batch frames levels']  # in [0, codebook_size)
Tokens = Int[Array, 'batch length']  # ids in a stage's own vocabulary
SampleMask = Bool[Array, 'batch samples']  # True where valid
FrameMask = Bool[Array, 'batch frames']  # True where valid

PRNGKey = jax.Array
Batch = Mapping[str, Array]  # a global batch, see batches.py
Variables = Mapping[str, Any]  # Linen collections: 'params' and others
