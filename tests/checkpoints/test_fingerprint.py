# SPDX-License-Identifier: Apache-2.0
"""A fingerprint moves with every bit of weights and config, and nothing else."""

import hashlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musiclm_jax.checkpoints import fingerprint as fingerprints

WEIGHTS = {
  'params/kernel': np.arange(15, dtype=np.float32).reshape(3, 5),
  'params/scale': np.full((), 2, np.float32),
}
CONFIG = {'width': 5}


def test_fingerprint_of_one_leaf_is_the_hash_written_out_by_hand():
  leaf = hashlib.sha256(b'\x01\x02\x03').hexdigest()
  text = f'{{"config":7,"weights":[["w","int8",[3],"{leaf}"]]}}'
  got = fingerprints.fingerprint({'w': np.array([1, 2, 3], np.int8)}, config=7)
  assert got == hashlib.sha256(text.encode()).hexdigest()


def test_order_of_leaves_and_memory_layout_do_not_matter():
  other = {
    name: np.array(value, order='F')
    for name, value in reversed(list(WEIGHTS.items()))
  }
  assert fingerprints.fingerprint(
    WEIGHTS, config=CONFIG
  ) == fingerprints.fingerprint(other, config=CONFIG)


@pytest.mark.parametrize(
  'change',
  [
    {'params/kernel': np.nextafter(WEIGHTS['params/kernel'], np.float32(9))},
    {'params/kernel': WEIGHTS['params/kernel'].reshape(5, 3)},
    {'params/kernel': WEIGHTS['params/kernel'].view(np.int32)},
    {'params/kernel': WEIGHTS['params/kernel'].astype(ml_dtypes.bfloat16)},
    {'params/bias': np.zeros((0,), np.float32)},
  ],
  ids=['one step', 'shape', 'type', 'precision', 'empty leaf'],
)
def test_any_change_of_a_leaf_changes_the_fingerprint(change):
  assert fingerprints.fingerprint(
    WEIGHTS, config=CONFIG
  ) != fingerprints.fingerprint(WEIGHTS | change, config=CONFIG)


def test_a_change_of_the_config_changes_the_fingerprint():
  assert fingerprints.fingerprint(
    WEIGHTS, config={'width': 5}
  ) != fingerprints.fingerprint(WEIGHTS, config={'width': 7})


NAMES = st.text(min_size=1, max_size=3, alphabet='abc.$')
TREES = st.recursive(
  st.integers(),
  lambda leaf: st.dictionaries(NAMES, leaf, min_size=1, max_size=3),
)


@given(st.dictionaries(NAMES, TREES, min_size=1))
def test_unflatten_undoes_flatten(tree):
  assert fingerprints.unflatten(fingerprints.flatten(tree)) == tree


@pytest.mark.parametrize('name', ['a/b', '', 3])
def test_a_name_that_is_no_part_of_a_path_is_refused(name):
  with pytest.raises(ValueError, match='cannot be part of a path'):
    fingerprints.flatten({'params': {name: 1}})
