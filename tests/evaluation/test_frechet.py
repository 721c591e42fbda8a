# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import scipy.linalg

from musiclm_jax.evaluation import frechet, moments


def _clips(
  num_clips: int, *, dim: int = 7, frames: int = 5, seed: int = 0, shift=0.0
) -> list[np.ndarray]:
  """Correlated samples, frame by frame independent."""
  mix = np.random.default_rng(99).standard_normal((dim, dim))
  draw = np.random.default_rng(seed)
  return [
    (draw.standard_normal((frames, dim)) @ mix + shift).astype(np.float32)
    for _ in range(num_clips)
  ]


def _with_scipy(first: np.ndarray, second: np.ndarray) -> float:
  """The formula of the paper, in float64, by the root of the product."""
  first, second = first.astype(np.float64), second.astype(np.float64)
  a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
  apart = first.mean(0) - second.mean(0)
  root = scipy.linalg.sqrtm(a @ b)
  return float(apart @ apart + np.trace(a + b - 2 * root.real))


def test_the_distance_is_that_of_scipy_in_float64():
  first, second = _clips(31, seed=1), _clips(29, seed=2, shift=0.3)
  found = frechet.measure(first, reference=second).distance.mean
  wanted = _with_scipy(np.concatenate(first), np.concatenate(second))
  assert wanted > 0.5
  assert abs(found - wanted) < 1e-6


def test_the_distance_of_two_numbers_by_hand():
  # Means 0 and 3, standard deviations 1 and 2: 3² + (2 - 1)².
  first = moments.Moments(count=2, mean=np.zeros(1), scatter=np.ones((1, 1)))
  second = moments.Moments(
    count=3, mean=np.full(1, 3.0), scatter=np.full((1, 1), 8.0)
  )
  assert frechet.frechet_distance(first, second) == pytest.approx(10)


@pytest.mark.parametrize('frames', [5, 1], ids=['regular', 'few samples'])
def test_a_set_is_no_distance_from_itself(frames: int):
  clips = _clips(3, dim=11, frames=frames)  # 15 and 3 samples.
  whole = moments.moments_of(clips)
  assert frechet.frechet_distance(whole, whole) < 1e-9


def test_few_samples_have_the_gaussian_of_their_covariance():
  embeddings = _clips(1, dim=11, frames=5)[0].astype(np.float64) + 3
  few = frechet.Gaussian.of_few(embeddings)
  found = moments.Moments.of(embeddings)
  assert few.rank == frechet.Gaussian.of(found).rank == 4
  np.testing.assert_allclose(few.mean, found.mean)
  np.testing.assert_allclose(few.root.T @ few.root, found.covariance)
  assert few.distance(frechet.Gaussian.of(found)) < 1e-9


def test_one_sample_is_as_far_as_its_place_and_the_others_spread():
  goal = frechet.Gaussian.of(
    moments.Moments(count=3, mean=np.zeros(2), scatter=np.diag([8.0, 2.0]))
  )
  alone = frechet.Gaussian.of_few(np.array([[3.0, 0.0]]))
  assert alone.rank == 0
  assert goal.distance(alone) == pytest.approx(9 + 4 + 1)


def test_few_samples_give_the_distance_of_their_plane_and_are_told():
  draw = np.random.default_rng(3)
  flat = [np.zeros((2, 5)) for _ in range(7)]
  for clip in flat:
    clip[:, :2] = draw.standard_normal((2, 2))
  moved = [clip + np.array([0, 0, 0, 0, 2.0]) for clip in flat]
  found = frechet.measure(moved, reference=flat)
  assert found.distance.mean == pytest.approx(4)
  assert found.ranks == (2, 2)
  told = ' '.join(found.warnings)
  assert '14 samples of the set are few for 5' in told
  assert 'covariance has rank 2' in told
  many = frechet.measure(10 * moved, reference=flat).warnings
  assert many[0] == 'the covariance of the set has rank 2 of 5'


def test_enough_samples_are_not_warned_of():
  found = frechet.measure(_clips(7), reference=_clips(7, seed=1))
  assert found.num_samples == (35, 35) and found.warnings == ()


@pytest.mark.parametrize('reference_size', [211, 31])
def test_at_infinity_most_of_what_small_sets_overstate_is_gone(
  monkeypatch, reference_size: int
):
  monkeypatch.setattr(frechet, '_NUM_RESAMPLES', 2)  # No interval is wanted.
  found = [
    frechet.measure(
      _clips(31, seed=seed), reference=_clips(reference_size, seed=100 + seed)
    )
    for seed in range(10, 23)
  ]
  # The truth is 0: one distribution.
  overstated = np.mean([one.distance.mean for one in found])
  assert overstated > 0.2
  assert abs(np.mean([one.at_infinity for one in found])) < overstated / 3
  sizes = list(found[0].by_size)
  assert sizes == sorted(sizes) and sizes[-1] == 31 * 5
  assert found[0].by_size[sizes[0]] > found[0].by_size[sizes[-1]]


def test_no_draw_holds_more_than_some_samples_in_float64(monkeypatch):
  monkeypatch.setattr(frechet, '_NUM_RESAMPLES', 3)
  clips, reference = _clips(31, seed=1), _clips(29, seed=2)
  wanted = frechet.measure(clips, reference=reference)
  sizes, of = [], moments.Moments.of.__func__

  def counted(cls, embeddings):
    sizes.append(len(embeddings))
    return of(cls, embeddings)

  monkeypatch.setattr(moments, 'ROWS_AT_A_TIME', 37)
  monkeypatch.setattr(moments.Moments, 'of', classmethod(counted))
  monkeypatch.setattr(moments, 'on_devices', moments.Moments.of)
  found = frechet.measure(clips, reference=reference)
  assert max(sizes) == 37
  assert found.by_size == pytest.approx(wanted.by_size)
  assert (found.distance.mean, found.distance.low) == pytest.approx(
    (wanted.distance.mean, wanted.distance.low)
  )


def test_the_distance_alone_is_that_with_an_interval():
  clips, reference = _clips(11, seed=1), _clips(13, seed=2)
  whole = frechet.measure(clips, reference=reference)
  goal = frechet.gaussian_of(reference)
  plain = frechet.measure_plainly(clips, goal=goal)
  assert plain.distance.mean == whole.distance.mean > 0
  assert plain.num_samples == (55, 65) and plain.warnings == whole.warnings
  assert np.isnan([plain.distance.low, plain.at_infinity]).all()
  assert plain.by_size == {} and plain.per_clip == ()


def test_what_is_not_finite_is_an_error_however_few_samples():
  few = [np.full((2, 7), np.nan)]
  with pytest.raises(ValueError, match='NaN or infinite'):
    frechet.measure_plainly(few, goal=frechet.gaussian_of(_clips(11)))


def test_the_line_is_found_by_hand():
  by_size = {n: 3 + 40 / n for n in (10, 20, 40)}
  at_infinity, fit = frechet._extrapolate(by_size)
  assert at_infinity == pytest.approx(3) and fit == pytest.approx(1)
  assert np.isnan(frechet._extrapolate({10: 3.0, 20: 4.0})[0])


def test_an_interval_holds_the_figure_and_narrows_with_clips():
  reference = _clips(401, seed=4)
  few = frechet.measure(_clips(11, seed=5), reference=reference).distance
  many = frechet.measure(_clips(211, seed=5), reference=reference).distance
  for found in (few, many):
    assert found.low < found.mean < found.high
  assert many.high - many.low < (few.high - few.low) / 2
  assert (few.num_clips, many.num_clips) == (11, 211)


def test_the_odd_clip_out_has_the_largest_distance_of_its_own():
  clips = _clips(13, seed=6)
  clips[5] = clips[5] + 4
  clips[7] = clips[7][:1]
  found = frechet.measure(clips, reference=_clips(53, seed=7)).per_clip
  assert np.nanargmax(found) == 5
  assert np.flatnonzero(np.isnan(found)).tolist() == [7]
