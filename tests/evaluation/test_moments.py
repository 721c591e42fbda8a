# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from musiclm_jax.evaluation import moments

DIM = 7


def _clips(*lengths: int, mean: float = 0.0) -> list[np.ndarray]:
  draw = np.random.default_rng(0)
  mix = draw.standard_normal((DIM, DIM))
  return [
    draw.standard_normal((length, DIM)) @ mix + mean for length in lengths
  ]


def _require_equal(found, whole: np.ndarray, *, rtol: float) -> None:
  """To the mean and covariance of NumPy, relative to their greatest."""
  assert found.count == len(whole)
  np.testing.assert_allclose(found.mean, whole.mean(0), rtol=rtol)
  wanted = np.cov(whole, rowvar=False)
  np.testing.assert_allclose(
    found.covariance, wanted, atol=rtol * np.abs(wanted).max()
  )


def test_merged_moments_are_those_of_the_whole_however_far_from_zero():
  clips = _clips(*[3] * 13, mean=1e6)
  halves = moments.moments_of(clips[7:]).merge(moments.moments_of(clips[:7]))
  for found in (moments.moments_of(clips), halves):
    _require_equal(found, np.concatenate(clips), rtol=1e-9)


def test_one_device_is_eight_and_numpy():
  (rows,) = _clips(1_009, mean=30.0)  # The last device has rows that are none.
  one, eight = (
    moments.on_devices(rows, devices=jax.devices()[:count]) for count in (1, 8)
  )
  for found in (one, eight):
    assert found.mean.dtype == found.scatter.dtype == np.float64
    _require_equal(found, rows, rtol=1e-12)
  np.testing.assert_allclose(eight.mean, one.mean, rtol=1e-12)
  np.testing.assert_allclose(eight.scatter, one.scatter, rtol=1e-12)


def test_many_clips_are_spread_over_devices_part_by_part(monkeypatch):
  monkeypatch.setattr(moments, 'ROWS_AT_A_TIME', 101)
  on_devices, parts = moments.on_devices, []

  def counted(rows):
    parts.append(len(rows))
    return on_devices(rows)

  monkeypatch.setattr(moments, 'on_devices', counted)
  # A clip that fills several parts, ones that fill none, a last one that fills
  # one to its end.
  clips = _clips(5, 211, 3, 307, 80)
  _require_equal(
    moments.moments_of(iter(clips)), np.concatenate(clips), rtol=1e-12
  )
  assert parts == [101] * 6
  parts.clear()
  moments.moments_of(clips[:1])
  assert parts == []


def test_a_platform_without_float64_leaves_it_to_the_cpu(monkeypatch):
  assert moments.float64_devices() == jax.local_devices()
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  assert {d.platform for d in moments.float64_devices()} == {'cpu'}


def test_what_is_no_embedding_is_an_error():
  with pytest.raises(ValueError, match='NaN or infinite'):
    moments.Moments.of(np.array([[1.0, np.nan]]))
  with pytest.raises(ValueError, match='one frame at least'):
    moments.moments_of([np.zeros((0, 3))])
  with pytest.raises(ValueError, match='at least 1'):
    moments.moments_of([])
