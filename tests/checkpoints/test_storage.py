# SPDX-License-Identifier: Apache-2.0
"""Parameters come back within the step of their type; nothing else changes."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

from musiclm_jax.checkpoints import storage

DRAWS = np.random.default_rng(0)
WEIGHTS = {
  'params/layer/kernel': DRAWS.normal(size=(3, 5, 17)).astype(np.float32),
  'params/layer/narrow': DRAWS.normal(size=(5, 7)).astype(np.float32),
  'params/layer/bias': DRAWS.normal(size=23).astype(np.float32),
  'params/steps': np.arange(3, dtype=np.int32),
  'codebooks/embeddings': DRAWS.normal(size=(5, 19)).astype(np.float32),
}
KERNEL = WEIGHTS['params/layer/kernel']


def test_int8_has_a_scale_for_each_channel_of_a_matrix():
  stored = storage.encode(WEIGHTS, storage='int8')
  kernel = stored['params/layer/kernel']
  assert kernel.dtype == np.int8
  scale = stored['params/layer/kernel.scale']
  assert scale.shape == (3, 5, 1)
  np.testing.assert_allclose(scale[..., 0] * 127, np.abs(KERNEL).max(-1))
  assert set(stored) - set(WEIGHTS) == {'params/layer/kernel.scale'}
  back = storage.decode(stored)
  assert list(back) == list(WEIGHTS)
  assert np.all(np.abs(back['params/layer/kernel'] - KERNEL) <= scale * 0.501)
  for path in set(WEIGHTS) - {'params/layer/kernel'}:
    np.testing.assert_array_equal(back[path], WEIGHTS[path])


def test_float16_keeps_what_decides_on_codes_as_it_is():
  stored = storage.encode(WEIGHTS, storage='float16')
  types = {path: leaf.dtype for path, leaf in stored.items()}
  assert (
    types['params/layer/bias'] == types['params/layer/kernel'] == np.float16
  )
  back = storage.decode(stored)
  assert {p: a.dtype for p, a in back.items()} == {
    p: a.dtype for p, a in WEIGHTS.items()
  }
  np.testing.assert_allclose(back['params/layer/kernel'], KERNEL, rtol=2**-11)
  for path in ('codebooks/embeddings', 'params/steps'):
    np.testing.assert_array_equal(back[path], WEIGHTS[path])


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
  leaf=hnp.arrays(np.float32, (3, 17), elements=st.floats(-100, 100, width=32))
)
@hypothesis.example(leaf=np.full((3, 17), 1e-44, np.float32))
def test_what_was_stored_is_stored_again_without_loss(leaf):
  values, scale = storage.quantize(leaf)
  back = values.astype(np.float32) * scale
  again, scale_again = storage.quantize(back)
  np.testing.assert_array_equal(again, values)
  np.testing.assert_array_equal(scale_again, scale)


def test_the_error_is_that_of_parameters_alone():
  other = {path: leaf * 1 for path, leaf in WEIGHTS.items()}
  other['codebooks/embeddings'] += 1
  assert storage.relative_error(WEIGHTS, other) == 0
  for name in ('kernel', 'narrow', 'bias'):
    other[f'params/layer/{name}'] = WEIGHTS[f'params/layer/{name}'] * 1.25
  assert storage.relative_error(WEIGHTS, other) == pytest.approx(0.25)


@pytest.mark.parametrize('dtype', storage.STORAGES)
@pytest.mark.parametrize('wrong', [np.nan, np.inf, -np.inf])
def test_a_broken_model_stays_broken_in_no_number_of_bytes(dtype, wrong):
  for name in ('kernel', 'bias'):
    path = f'params/layer/{name}'
    leaf = WEIGHTS[path].copy()
    leaf.flat[[1, 20]] = wrong
    with pytest.raises(ValueError, match=f'{path} has 2 values of {leaf.size}'):
      storage.encode(WEIGHTS | {path: leaf}, storage=dtype)


def test_a_parameter_of_the_name_scale_is_no_scale_of_int8():
  kept = {
    'params/gain': DRAWS.normal(size=5).astype(np.float32),
    'params/gain.scale': DRAWS.normal(size=7).astype(np.float32),
    'params/.scale': DRAWS.normal(size=3).astype(np.float32),
  }
  back = storage.decode(storage.encode(kept, storage='int8'))
  assert list(back) == list(kept)
  for path, leaf in kept.items():
    np.testing.assert_array_equal(back[path], leaf)


def test_what_cannot_be_stored_is_refused():
  assert storage.encode(WEIGHTS, storage=None) == WEIGHTS
  with pytest.raises(ValueError, match="as 'int4'; choose one of"):
    storage.encode(WEIGHTS, storage='int4')
  with pytest.raises(ValueError, match='params/x has values up to 70000'):
    storage.encode({'params/x': np.full(3, 7e4, np.float32)}, storage='float16')
