# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.mulan import parts


@pytest.mark.parametrize('part_rows', [None, 12, 4, 1])
def test_parts_are_joined_row_by_row(part_rows):
  rows = {'a': jnp.arange(12.0), 'b': jnp.arange(24.0).reshape(12, 2)}
  sizes = []

  def double(part):
    sizes.append(len(part['a']))
    return part['a'] * 2, part['b'] + part['a'][:, None]

  first, second = parts.map_parts(double, rows, part_rows=part_rows)
  np.testing.assert_array_equal(first, 2 * np.arange(12))
  np.testing.assert_array_equal(second, rows['b'] + rows['a'][:, None])
  assert set(sizes) == {part_rows or 12}


def test_parts_that_do_not_divide_the_rows_are_an_error():
  with pytest.raises(ValueError, match='12 rows.*parts of 5; choose a divisor'):
    parts.map_parts(lambda part: part, jnp.arange(12), part_rows=5)
