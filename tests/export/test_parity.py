# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from musiclm_jax.export import parity

ONES = np.ones((2, 3), np.float32)


def sheet():
  return parity.Sheet(clips='a clip', fingerprints={'codec': 'abc'})


def test_errors_are_the_largest_and_relative_to_the_largest_value():
  found = sheet()
  wanted = np.array([0.0, 4.0, -8.0])
  found.values('codec', 'hidden', wanted=wanted, got=wanted + [0, 2, -1])
  (check,) = found.checks
  assert (check.max_abs_error, check.max_relative_error) == (2, 0.25)
  assert check.bound is None
  assert check.passed


@pytest.mark.parametrize(
  ('got', 'bound', 'passed'),
  [
    (ONES + 0.5, {'absolute': 0.5}, True),
    (ONES + 0.5, {'absolute': 0.49}, False),
    (2 * ONES, {'relative': 1.0}, True),
    (2 * ONES, {'absolute': 2.0, 'relative': 0.9}, False),
    (np.nan * ONES, {'absolute': 1e9}, False),
  ],
)
def test_a_bound_holds_or_not_and_never_for_nan(got, bound, passed):
  found = sheet()
  found.values('codec', 'hidden', wanted=ONES, got=got, **bound)
  assert found.checks[0].passed == passed


@pytest.mark.parametrize(
  ('options', 'passed'),
  [
    ({}, True),
    ({'num_unexplained': 1}, False),
    ({'least_share': 0.75}, True),
    ({'least_share': 0.76}, False),
  ],
)
def test_codes_may_differ_where_that_is_explained(options, passed):
  found = sheet()
  codes = np.array([1, 2, 3, 4])
  got = np.array([1, 2, 3, 5])
  found.codes('codec', 'codes', wanted=codes, got=got, **options)
  assert found.checks[0].equal_share == 0.75
  assert found.checks[0].passed == passed


def test_other_shapes_are_no_comparison():
  with pytest.raises(ValueError, match=r'JAX makes \[2, 3\], PyTorch \[3, 2\]'):
    sheet().values('codec', 'hidden', wanted=ONES, got=ONES.T)
  with pytest.raises(ValueError, match=r'JAX makes \[3\], PyTorch \[2\]'):
    sheet().codes('codec', 'codes', wanted=np.ones(3), got=np.ones(2))


def test_what_fails_is_named_with_its_error_and_its_bound():
  found = sheet()
  found.values('codec', 'good', wanted=ONES, got=ONES, absolute=1.0)
  found.require_passed()
  found.values('codec', 'bad', wanted=ONES, got=2 * ONES, absolute=0.1)
  with pytest.raises(ValueError, match='1 of 2 checks: codec bad: error 1, '):
    found.require_passed()


def test_nothing_compared_is_no_proof():
  with pytest.raises(ValueError, match='Nothing was compared'):
    sheet().require_passed()


def test_the_sheet_is_written_as_figures_and_as_a_page(tmp_path):
  found = sheet()
  found.values('codec', 'hidden', wanted=ONES, got=ONES + 1, absolute=0.1)
  found.codes('codec', 'codes', wanted=np.ones(3), got=np.ones(3), note='(ok)')
  found.write(tmp_path)
  fields = json.loads((tmp_path / parity.JSON).read_text())
  assert fields['clips'] == 'a clip'
  assert fields['checks'][0]['max_abs_error'] == 1
  page = (tmp_path / parity.MARKDOWN).read_text()
  assert '| `hidden` | 2 × 3 | 1 | 1 |  | error ≤ 0.1 | **no** |' in page
  assert '| `codes` (ok) | 3 |  |  | 100 % |' in page
  assert '1 of 2 bounds hold' in page
  assert 'Fingerprint `abc`' in page
  assert fields['backend'] == 'cpu' and 'exported from on CPU' in page
