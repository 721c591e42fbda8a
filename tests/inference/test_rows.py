# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from musiclm_jax.inference import rows
from musiclm_jax.inference.decoding import DecodingConfig, StageDecoder
from tests.stages import toys


class Recorder(StageDecoder):
  """Adds 1000 to a row instead of decoding it, and keeps what it was given."""

  def decode(self, tokens, **options):
    self.params.append({'tokens': tokens, **options})
    options['progress'](1, 1)
    return tokens + 1000


def decode(num_rows, *, guidance_scale=None, **options):
  """What comes out, and the calls that were made for it."""
  calls = []
  recorder = Recorder(
    config=toys.config(),
    params=calls,
    decoding=DecodingConfig(guidance_scale=guidance_scale),
  )
  tokens = toys.config().layout.pack_prompt(toys.codes(num_rows))
  settings = {
    'seeds': np.arange(num_rows, dtype=np.uint32),
    'places': np.zeros(num_rows, np.uint32),
    'stage_index': 0,
    'dropped_streams': ('clip',),
    'max_rows': 4,
    'progress': lambda share: None,
  }
  made = rows.decode(recorder, tokens, **(settings | options))
  np.testing.assert_array_equal(made, tokens + 1000)
  return calls


def test_buckets_hold_and_waste_at_most_a_third():
  sizes = [rows.bucket(n) for n in range(1, 98)]
  assert sorted(set(sizes)) == [
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
    96,
    128,
  ]
  assert all(n <= size <= 1.5 * n for n, size in enumerate(sizes, start=1))


def test_groups_are_filled_up_to_a_bucket_with_rows_of_their_own():
  calls = decode(11)
  assert [len(call['tokens']) for call in calls] == [4, 4, 3]
  calls = decode(5, max_rows=8)
  assert [len(call['tokens']) for call in calls] == [6]
  tokens = calls[0]['tokens']
  np.testing.assert_array_equal(tokens[5], tokens[0])


def test_requests_stages_and_windows_do_not_draw_alike():
  drawn = []
  for stage_index in (0, 1):
    calls = decode(
      3,
      seeds=np.asarray([0, 0, 1], np.uint32),
      places=np.asarray([0, 7, 0], np.uint32),
      stage_index=stage_index,
    )
    drawn += map(tuple, np.asarray(jax.random.key_data(calls[0]['keys'])))
  assert len(set(drawn)) == 6


def test_a_row_draws_alike_in_any_group():
  whole, parts = decode(8, max_rows=8), decode(8, max_rows=2)
  np.testing.assert_array_equal(
    jax.random.key_data(whole[0]['keys']),
    np.concatenate([jax.random.key_data(call['keys']) for call in parts]),
  )


def test_guidance_drops_the_condition_of_every_row():
  assert decode(3)[0]['unconditional'] is None
  (call,) = decode(3, guidance_scale=2.0)
  layout = toys.config().layout
  clip, slow = (segment.positions for segment in layout.segments[:2])
  assert np.all(call['unconditional'][:, clip] == layout.null_id)
  np.testing.assert_array_equal(
    call['unconditional'][:, slow], call['tokens'][:, slow]
  )


def test_progress_is_of_all_groups():
  told = []
  decode(9, progress=told.append)
  assert told == pytest.approx([1 / 3, 2 / 3, 1])
