# SPDX-License-Identifier: Apache-2.0
import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.layers import alignment, embedding
from musiclm_jax.layers.alignment import Span

# BOS, then a condition of three codes without a time, three slow frames, seven
# fast frames of two codes, and a last padding.
SPANS = (
  Span(start=2, num_frames=1, count=3, frame_ticks=None),
  Span(start=6, num_frames=3, count=1, frame_ticks=fractions.Fraction(7, 3)),
  Span(start=10, num_frames=7, count=2, frame_ticks=fractions.Fraction(1)),
)
LENGTH = 25
NO_TIME = None
OWNERS = [-1] + 4 * [0] + 4 * [1] + 15 * [2] + [-1]
TIMES = [NO_TIME] * 5 + [0, 0, 2, 4] + [0, *np.repeat(range(7), 2), NO_TIME]
MAX_LAG = 6

DRAWS = np.random.default_rng(0)
BY_DISTANCE = jnp.asarray(DRAWS.normal(size=(3, LENGTH)), jnp.float32)
BY_LAG = jnp.asarray(DRAWS.normal(size=(3, 2 * MAX_LAG + 2)), jnp.float32)


def wanted(query, key):
  """The bias of one pair, by the rule."""
  owners = {OWNERS[query], OWNERS[key]}
  if len(owners) == 1 or -1 in owners:
    return BY_DISTANCE[:, query - key]
  if NO_TIME in (TIMES[query], TIMES[key]):
    return BY_LAG[:, -1]
  return BY_LAG[:, MAX_LAG + TIMES[query] - TIMES[key]]


PAST = [(query, key) for query in range(LENGTH) for key in range(query + 1)]


# The whole row; prompts that end in the output, before it and in an input.
@pytest.mark.parametrize('length', [LENGTH, 17, 9, 4])
def test_within_a_segment_distance_counts_and_between_segments_time(length):
  assert alignment.max_lag(SPANS) == MAX_LAG
  matrix = alignment.align_matrix(
    embedding.bias_matrix(BY_DISTANCE[:, :length]), BY_LAG, spans=SPANS
  )
  assert matrix.shape == (1, 3, length, length)
  for query, key in PAST:
    if query < length:
      np.testing.assert_array_equal(
        matrix[0, :, query, key], wanted(query, key)
      )


@pytest.mark.parametrize('capacity', [17, LENGTH])
def test_a_row_is_that_of_the_matrix(capacity):
  @jax.jit
  def row(position):
    by_distance = BY_DISTANCE[:, :capacity]
    return alignment.align_row(
      embedding.bias_row(by_distance, position=position),
      BY_LAG,
      spans=SPANS,
      position=position,
    )

  rows = np.stack([row(jnp.asarray(query)) for query in range(capacity)])
  for query, key in PAST:
    if query < capacity:
      np.testing.assert_array_equal(rows[query, :, key], wanted(query, key))


def test_lags_have_t5s_buckets_in_both_directions_and_no_time_has_its_own():
  module = alignment.TimeBias(num_heads=2, num_buckets=6, max_distance=11)
  table = jnp.asarray(DRAWS.normal(size=(2, 12)), jnp.float32)
  by_lag = module.apply({'params': {'table': table}}, 20)
  buckets = embedding.distance_buckets(21, num_buckets=6, max_distance=11)
  np.testing.assert_array_equal(by_lag[:, 20:41], table[:, buckets])
  np.testing.assert_array_equal(by_lag[:, 19::-1], table[:, 6 + buckets[1:]])
  np.testing.assert_array_equal(by_lag[:, -1], table[:, 6])
  assert len(np.unique(by_lag[0])) == 12


def test_fresh_heads_look_anywhere_at_their_moment_and_at_what_has_no_time():
  module = alignment.TimeBias(num_heads=4, num_buckets=6, max_distance=11)
  variables = meta.unbox(module.init(jax.random.key(0), 3))
  by_lag = module.apply(variables, 3)
  moment = [2, 4, 6, 8, 6, 4, 2, 0]
  wanted = [8 * [0], moment, 8 * [0], 7 * [0] + [4]]
  np.testing.assert_array_equal(by_lag, wanted)


def test_every_bucket_that_a_row_has_is_given_a_gradient():
  def scores(by_lag):
    bias = embedding.bias_matrix(BY_DISTANCE)
    made = alignment.align_matrix(bias, by_lag, spans=SPANS)
    return jnp.sum(jnp.tril(made))

  gradient = jax.grad(scores)(BY_LAG)
  counts = np.zeros(2 * MAX_LAG + 2)
  for query, key in PAST:
    if -1 not in (OWNERS[query], OWNERS[key]) and OWNERS[query] != OWNERS[key]:
      timeless = NO_TIME in (TIMES[query], TIMES[key])
      lag = -1 if timeless else MAX_LAG + TIMES[query] - TIMES[key]
      counts[lag] += 1
  np.testing.assert_array_equal(gradient, np.tile(counts, (3, 1)))
