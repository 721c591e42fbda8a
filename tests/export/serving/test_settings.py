# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.export.serving.settings import Settings


def test_a_request_must_fit_into_a_batch():
  with pytest.raises(ValueError, match='max_samples is 4, but a batch has 2'):
    Settings(tile=2)
  assert Settings(tile=2, max_samples=2).tile == 2


@pytest.mark.parametrize(
  'name, kind', [('max_waiting', int), ('timeout_seconds', float)]
)
def test_nothing_is_unlimited(name, kind):
  with pytest.raises(ValueError, match=f'{name} is 0.*; give more'):
    Settings(**{name: kind(0)})
  assert Settings(batch_wait_seconds=0.0).batch_wait_seconds == 0
