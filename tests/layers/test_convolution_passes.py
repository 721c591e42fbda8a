# SPDX-License-Identifier: Apache-2.0
"""Every pass equals XLA's own convolution, and the gradient XLA derives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.layers import convolution_passes
from musiclm_jax.layers.convolution_passes import Geometry

_NONE = (0, 0)

# inputs [batch, time, bins, channels], kernel, geometry
CASES = {
  'plain': ((2, 13, 11, 5), (3, 3, 5, 7), Geometry(strides=(1, 1), padding=((1, 1), (1, 1)))),
  'bins are halved': ((2, 12, 10, 5), (3, 4, 5, 7), Geometry(strides=(1, 2), padding=((1, 1), (1, 1)))),
  'both are halved': ((2, 11, 13, 5), (4, 4, 5, 7), Geometry(strides=(2, 2), padding=((1, 1), (1, 1)))),
  'stride beyond the kernel': ((2, 13, 11, 5), (2, 2, 5, 7), Geometry(strides=(3, 3), padding=(_NONE, _NONE))),
  'few channels': ((2, 13, 11, 2), (7, 7, 2, 3), Geometry(strides=(1, 1), padding=((3, 3), (3, 3)))),
  'dilated': ((2, 23, 11, 5), (3, 9, 5, 7), Geometry(strides=(1, 2), padding=((4, 4), (4, 4)), dilation=(4, 1))),
  'one axis': ((3, 41, 1, 5), (7, 1, 5, 7), Geometry(strides=(1, 1), padding=((18, 0), _NONE), dilation=(3, 1))),
  'wide for its length': ((2, 3, 1, 53), (5, 1, 53, 59), Geometry(strides=(1, 1), padding=((2, 2), _NONE))),
  'grouped': ((2, 37, 1, 8), (41, 1, 4, 10), Geometry(strides=(4, 1), padding=((20, 20), _NONE), num_groups=2)),
  'several partial products': ((3, 131, 127, 5), (3, 3, 5, 7), Geometry(strides=(1, 1), padding=((1, 1), (1, 1)))),
}  # fmt: skip


@pytest.mark.parametrize('case', CASES.values(), ids=CASES.keys())
def test_passes_equal_those_of_xla(case):
  in_shape, kernel_shape, geometry = case
  with jax.enable_x64():
    rng = np.random.default_rng(7)
    inputs = jnp.asarray(rng.normal(size=in_shape))
    kernel = jnp.asarray(rng.normal(size=kernel_shape))
    wanted, pull_back = jax.vjp(
      lambda x, w: convolution_passes.xla_convolve(x, w, geometry),
      inputs,
      kernel,
    )
    cotangent = jnp.asarray(rng.normal(size=wanted.shape))
    operands = inputs, kernel, cotangent, geometry
    _close(convolution_passes.forward(inputs, kernel, geometry), wanted)
    to_inputs, to_kernel = pull_back(cotangent)
    _close(convolution_passes.input_gradient(*operands), to_inputs)
    _close(convolution_passes.kernel_gradient(*operands), to_kernel)


def test_stride_and_dilation_of_one_axis_are_refused():
  with pytest.raises(ValueError, match='only one of the two'):
    Geometry(strides=(2, 1), padding=(_NONE, _NONE), dilation=(3, 1))


def _close(got, wanted):
  assert got.shape == wanted.shape
  scale = np.max(np.abs(wanted))
  np.testing.assert_allclose(got, wanted, atol=1e-12 * scale)
