# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from musiclm_jax.layers import embedding


def test_buckets_of_distances_are_as_counted_by_hand():
  buckets = embedding.distance_buckets(1000, num_buckets=32, max_distance=128)
  # One each up to 15; then 16 buckets over the logarithm from 16 to 128, each
  # an eighth of 3 octaves: the bounds are 16 * 8 ** (n / 16).
  np.testing.assert_array_equal(buckets[:17], range(17))
  bounds = [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]
  for bucket, first in enumerate(bounds, start=16):
    assert buckets[first] == bucket
    assert buckets[first - 1] == bucket - 1
  assert set(buckets[113:]) == {31}


def test_far_buckets_open_at_exact_powers():
  # From 4 on, two buckets an octave pair: 4 * 4 ** (n / 4), so 8 opens one.
  buckets = embedding.distance_buckets(20, num_buckets=8, max_distance=16)
  np.testing.assert_array_equal(
    buckets, [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6] + [7] * 8
  )


def test_bias_of_a_pair_is_its_distances_and_a_row_is_one_of_the_matrix():
  by_distance = jnp.asarray([[0.0, 1, 2, 3, 4], [0, 10, 20, 30, 40]])
  matrix = embedding.bias_matrix(by_distance)
  assert matrix.shape == (1, 2, 5, 5)
  for query in range(5):
    row = embedding.bias_row(by_distance, position=jnp.asarray(query))
    for key in range(query + 1):
      assert matrix[0, 1, query, key] == 10 * (query - key)
      assert row[1, key] == 10 * (query - key)
    np.testing.assert_array_equal(matrix[0, :, query, query + 1 :], 0)


def test_table_of_biases_has_a_row_a_head_and_is_read_by_bucket():
  layer = embedding.RelativeBias(num_heads=3)
  variables = {'params': {'table': jnp.arange(96.0).reshape(3, 32)}}
  shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), 5))
  assert meta.unbox(shapes)['params']['table'].shape == (3, 32)
  by_distance = layer.apply(variables, 300)
  assert by_distance[2, 15] == 64 + 15
  assert by_distance[2, 20] == 64 + 17
  assert by_distance[2, 299] == 64 + 31


def test_rotary_scores_depend_on_the_distance_alone():
  query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 3, 8))

  def score(query_position, key_position):
    turned = [
      embedding.rotate(vector, jnp.asarray([position]))
      for vector, position in ((query, query_position), (key, key_position))
    ]
    return jnp.sum(turned[0] * turned[1], axis=-1)

  np.testing.assert_allclose(score(7, 3), score(1007, 1003), atol=1e-4)
  assert not np.allclose(score(7, 3), score(7, 2), atol=1e-2)
  np.testing.assert_array_equal(score(0, 0), jnp.sum(query * key, axis=-1))


def test_rotary_turns_a_pair_by_its_position_in_radians():
  # The first pair has frequency 1: coordinates 0 and 2 of four.
  vector = jnp.asarray([1.0, 0, 0, 0]).reshape(1, 1, 1, 4)
  turned = embedding.rotate(vector, jnp.asarray([2]))
  np.testing.assert_allclose(
    turned[0, 0, 0], [np.cos(2), 0, np.sin(2), 0], atol=1e-6
  )


def test_embedding_is_the_row_of_its_token():
  layer = embedding.Embedding(num_ids=5, embed_dim=3)
  table = jnp.arange(15.0).reshape(5, 3)
  vectors = layer.apply({'params': {'table': table}}, jnp.asarray([[4, 0]]))
  np.testing.assert_array_equal(vectors, [[[12, 13, 14], [0, 1, 2]]])


def test_two_sided_biases_are_looked_up_by_direction_and_distance():
  past, future = jnp.array([[0.0, 1.0, 2.0]]), jnp.array([[9.0, 11.0, 12.0]])
  got = embedding.two_sided_bias_matrix(past=past, future=future)
  wanted = [[0, 11, 12], [1, 0, 11], [2, 1, 0]]
  np.testing.assert_array_equal(got, np.asarray(wanted)[None, None])
