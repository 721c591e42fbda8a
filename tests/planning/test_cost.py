# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import pytest

from musiclm_jax.planning import cost
from musiclm_jax.planning.devices import CHIPS
from musiclm_jax.planning.program import PRIME_ROWS, Split, trace

# A rate of 1 each, and a matrix unit that any size fills.
SLOW_CHIP = dataclasses.replace(
  CHIPS['v5e'], flops_per_second=1.0, bytes_per_second=1e30, tile=1
)
SLOW_MEMORY = dataclasses.replace(
  CHIPS['v5e'], flops_per_second=1e30, bytes_per_second=1.0, tile=1
)


def rows(*shape):
  return jax.ShapeDtypeStruct((PRIME_ROWS, *shape), jnp.float32)


def whole(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_the_peak_holds_what_lives_at_once():
  # 3 → 7 → 5 → 2; the last outlives the step.
  region = trace(
    lambda x, a, b, c: ((x @ a) @ b) @ c,
    rows(3),
    whole(3, 7),
    whole(7, 5),
    whole(5, 2),
  )
  found = cost.peak(region, Split(num_rows=11))
  assert found.rows == pytest.approx(11 * (7 + 5) * 4)
  assert found.others == 0


def test_residuals_of_a_loop_live_until_the_backward_pass():
  def loss(w, x):
    return jnp.sum(jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, w)[0])

  region = trace(jax.grad(loss), whole(6, 5, 5), rows(5))
  kept = cost.peak(region, Split(num_rows=2)).rows
  twice = cost.peak(
    trace(jax.grad(loss), whole(12, 5, 5), rows(5)), Split(num_rows=2)
  ).rows
  # Each layer keeps its input and a cosine.
  assert twice - kept == pytest.approx(6 * 2 * 2 * 5 * 4)


def test_a_step_is_as_slow_as_its_products_or_its_memory():
  region = trace(jnp.matmul, rows(5), whole(5, 7))
  split = Split(num_rows=11)
  assert cost.seconds(region, split, SLOW_CHIP) == pytest.approx(2 * 11 * 35)
  moved = 4 * (11 * 5 + 5 * 7 + 11 * 7)
  assert cost.seconds(region, split, SLOW_MEMORY) == pytest.approx(moved)


def test_a_narrow_product_fills_a_part_of_the_matrix_unit():
  region = trace(jnp.matmul, rows(4), whole(4, 7))
  chip = dataclasses.replace(SLOW_CHIP, tile=8)
  seconds = cost.seconds(region, Split(num_rows=3), chip)
  assert seconds == pytest.approx(2 * 3 * 4 * 7 * (8 / 4) * (8 / 7))


def test_one_pass_reads_and_writes_what_is_between_products_once():
  region = trace(lambda x: jax.nn.softmax(x, axis=1), rows(5))
  seconds = cost.seconds(region, Split(num_rows=3), SLOW_MEMORY)
  assert seconds == pytest.approx(2 * 3 * 5 * 4)


def test_what_is_as_large_as_a_parameter_is_stored_in_parts():
  region = trace(lambda w: w @ w @ w, whole(6, 6), stored=(36,))
  split = Split(num_rows=1, stored_share=0.25)
  assert cost.peak(region, split) == cost.Peak(others=6 * 6 * 4 * 0.25)
  # A table of positions, say, is on every device.
  other = trace(lambda w: w @ w @ w, whole(6, 6), stored=(35,))
  assert cost.peak(other, split) == cost.Peak(others=6.0 * 6 * 4)


def test_what_a_loop_is_given_exists_though_it_is_elementwise():
  def loop(x, bias):
    spread = jnp.broadcast_to(bias, (31, 5))
    return jax.lax.scan(lambda x, _: (x @ spread.T @ spread, None), x, None, 3)

  region = trace(loop, rows(5), whole(1, 5))
  assert cost.peak(region, Split(num_rows=1)).others == 31 * 5 * 4
