# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.quantization import vector

KEY = jax.random.key(5)


def codebook():
  return vector.Codebook(
    embeddings=jnp.array([[0.0], [10.0]]), counts=jnp.array([4.0, 8.0])
  )


def follow(frames, codes, *, threshold=0.0, mask=None, decay=0.75):
  frames = jnp.asarray(frames, jnp.float32)[:, None]
  mask = np.ones(len(frames), bool) if mask is None else np.asarray(mask)
  return vector.follow(
    codebook(),
    frames,
    jnp.asarray(codes),
    decay=decay,
    dead_code_threshold=threshold,
    key=KEY,
    mask=mask,
  )


def test_averages_move_as_by_hand():
  moved, counts = follow([1, 3, 12], [0, 0, 1])
  # Counts: 0.75 * 4 + 0.25 * 2 and 0.75 * 8 + 0.25 * 1.
  np.testing.assert_allclose(moved.counts, [3.5, 6.25])
  # Sums: 0.75 * 4 * 0 + 0.25 * (1 + 3) and 0.75 * 8 * 10 + 0.25 * 12.
  np.testing.assert_allclose(
    moved.embeddings, [[1 / 3.5], [63 / 6.25]], rtol=1e-6
  )
  np.testing.assert_array_equal(counts, [2, 1])


def test_many_equal_batches_bring_each_code_to_its_mean():
  moved = codebook()
  frames = jnp.array([[1.0], [3.0], [12.0]])
  for _ in range(60):
    moved, _ = vector.follow(
      moved,
      frames,
      jnp.array([0, 0, 1]),
      decay=0.75,
      dead_code_threshold=0.0,
      key=KEY,
      mask=jnp.ones(3, bool),
    )
  np.testing.assert_allclose(moved.embeddings, [[2], [12]], rtol=1e-5)
  np.testing.assert_allclose(moved.counts, [2, 1], rtol=1e-5)


def test_a_code_below_the_threshold_becomes_a_frame_of_the_batch():
  # After the batch the counts are 3.5 and 6.25: only the first is dead.
  moved, _ = follow([1, 3, 12], [0, 0, 1], threshold=4.0)
  assert float(moved.embeddings[0, 0]) in (1.0, 3.0, 12.0)
  np.testing.assert_allclose(moved.counts, [4.0, 6.25])
  np.testing.assert_allclose(moved.embeddings[1], [63 / 6.25], rtol=1e-6)


def test_dead_codes_become_different_frames():
  moved, _ = follow([1, 3, 12], [0, 0, 1], threshold=100.0)
  first, second = moved.embeddings[:, 0].tolist()
  assert {first, second} < {1.0, 3.0, 12.0} and first != second


def test_masked_frames_neither_count_nor_replace():
  masked, counts = follow(
    [1, 3, np.nan, 77], [0, 0, 1, 1], mask=[True, True, False, False]
  )
  plain, _ = follow([1, 3], [0, 0])
  np.testing.assert_array_equal(masked.embeddings, plain.embeddings)
  np.testing.assert_array_equal(counts, [2, 0])
  dead, _ = follow(
    [1, 3, np.nan, 77],
    [0, 0, 1, 1],
    mask=[True, True, False, False],
    threshold=100.0,
  )
  np.testing.assert_array_equal(jnp.sort(dead.embeddings[:, 0]), [1, 3])


def test_a_batch_of_padding_alone_replaces_no_code():
  moved, counts = follow([5, 6], [0, 1], mask=[False, False], threshold=100.0)
  np.testing.assert_array_equal(moved.embeddings, codebook().embeddings)
  np.testing.assert_array_equal(counts, [0, 0])


def test_a_code_that_was_never_chosen_stays_where_it_is():
  unused = vector.Codebook(jnp.array([[7.0], [1.0]]), jnp.zeros(2))
  moved, _ = vector.follow(
    unused,
    jnp.array([[3.0]]),
    jnp.array([1]),
    decay=0.99,
    dead_code_threshold=0.0,
    key=KEY,
    mask=jnp.ones(1, bool),
  )
  np.testing.assert_allclose(moved.embeddings, [[7], [3]])


def test_the_start_is_the_first_batch_in_clusters():
  frames = jnp.array([[0.0], [0.5], [8.0], [8.5], [8.2]])
  found = vector.start(
    frames,
    codebook_size=2,
    num_iterations=5,
    key=KEY,
    mask=jnp.ones(5, bool),
  )
  order = jnp.argsort(found.embeddings[:, 0])
  np.testing.assert_allclose(
    found.embeddings[order], [[0.25], [24.7 / 3]], rtol=1e-6
  )
  np.testing.assert_array_equal(found.counts[order], [2, 3])


def test_perplexity_and_usage_are_those_of_the_counts():
  counts = jnp.array([[3.0, 3, 3, 0], [5, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
  np.testing.assert_allclose(vector.perplexity(counts), [3, 1, 1, 4], rtol=1e-6)
  np.testing.assert_allclose(vector.usage(counts), [0.75, 0.25, 0, 1])
