# SPDX-License-Identifier: Apache-2.0
"""Figures of views that know, by construction, all or nothing."""

import numpy as np
import pytest

from musiclm_jax.evaluation import abx, semantic
from musiclm_jax.evaluation.semantic_views import LOG_MEL, TOKENS, View

pytest.importorskip('sklearn')

NUM_TUNES, SAMPLES, CODES = 36, 31, 5


def sees(waveform, *, sample_rate_hz):
  """The samples themselves: the class is their mean."""
  return waveform[..., None]


def is_blind(waveform, *, sample_rate_hz):
  """Of an unknown function of the samples, nothing remains."""
  seeds = np.abs(waveform * 1e6).sum(-1).astype(int)
  return np.stack(
    [np.random.default_rng(s).standard_normal((SAMPLES, 3)) for s in seeds]
  )


def tokens(waveform, *, sample_rate_hz):
  return np.clip(waveform, 0, CODES - 1).astype(np.int32)


def view(name, listen, **changes):
  return View(
    **{
      'name': name,
      'listen': listen,
      'pool': lambda frames: frames.mean(0),
      'distance': abx.cosine_distance,
      **changes,
    }
  )


VIEWS = (
  view(LOG_MEL, is_blind),
  view('seeing', sees),
  view(
    TOKENS,
    tokens,
    pool=lambda frames: np.bincount(frames, minlength=CODES) / frames.size,
    distance=abx.token_distance,
  ),
)


def crops():
  """Two a tune; 'high' sounds higher; every third tune is held out."""
  generator = np.random.default_rng(0)
  for tune in range(NUM_TUNES):
    for _ in range(2):
      noise = generator.standard_normal(SAMPLES)
      is_high = tune % 2 == 0
      yield semantic.Crop(
        waveform=noise + (3 if is_high else 0),
        tune=f'tune {tune}',
        classes={
          'height': 'high' if is_high else 'low',
          'rare': 'unheard'
          if tune == 3
          else None
          if tune == 6
          else 'ab'[tune % 2],
        },
        is_held_out=tune % 3 == 0,
      )


def covers():
  """Two groups of tunes; the second rendering is the first, twice as slow."""
  generator = np.random.default_rng(1)
  groups = []
  for _ in range(2):
    tunes = [generator.integers(0, CODES, 19) for _ in range(5)]
    groups.append(
      [
        (t.astype(np.float64), np.repeat(t, 2).astype(np.float64))
        for t in tunes
      ]
    )
  return groups


@pytest.fixture(scope='module')
def report():
  return semantic.evaluate(
    VIEWS,
    crops=crops(),
    covers=covers(),
    crops_rate_hz=8,
    covers_rate_hz=8,
    codebook_size=CODES,
  )


def probe(report, *, task='height', name):
  (found,) = [p for p in report.probes if (p.task, p.view) == (task, name)]
  return found


def test_a_view_that_sees_the_class_is_right_and_its_gain_is_sure(report):
  seeing = probe(report, name='seeing')
  assert seeing.accuracy.mean > 0.95
  assert seeing.gains[LOG_MEL].low > 0.05
  assert (seeing.num_classes, seeing.num_rows) == (2, 24)
  assert seeing.accuracy.num_clips == 12  # Tunes, not crops.


def test_a_blind_view_is_near_chance_and_is_no_baseline_of_itself(report):
  blind = probe(report, name=LOG_MEL)
  assert abs(blind.accuracy.mean - 0.5) < 0.3
  assert LOG_MEL not in blind.gains


def test_rows_without_a_class_and_classes_never_heard_are_left_out(report):
  # Of twelve held-out tunes one is of no class and one of a new one.
  assert probe(report, task='rare', name='seeing').num_rows == 20


def test_tokens_that_follow_the_tune_recognise_it(report):
  figures = {found.view: found for found in report.covers}
  assert figures[TOKENS].score.mean == 1
  assert figures[TOKENS].same.mean == 0
  assert figures[TOKENS].different.low > 0.2
  assert figures[TOKENS].score.num_clips == 10


def test_codes_are_counted_over_held_out_crops(report):
  assert report.num_frames == 24 * SAMPLES
  assert report.num_tunes == 12
  assert report.codebook.used_share == 1
  assert 0.2 < report.repeated_share < 0.9


def test_no_held_out_crop_is_named():
  with pytest.raises(ValueError, match='no held-out crops'):
    semantic.evaluate(
      VIEWS,
      crops=(),
      covers=(),
      crops_rate_hz=8,
      covers_rate_hz=8,
      codebook_size=CODES,
    )
