# SPDX-License-Identifier: Apache-2.0
"""Codes come back from disk as they were written, cut to the window."""

import dataclasses
import fractions
import json
import shutil

import numpy as np
import pytest

from musiclm_jax.data import corpus, token_corpus
from tests.data import token_toys, toys

STREAMS = ('mulan', 'semantic', 'acoustic')


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  directory = tmp_path_factory.mktemp('written')
  token_toys.write(directory)
  return directory


@pytest.fixture(scope='module')
def tokens(directory):
  return token_corpus.TokenCorpus(directory / 'tokens')


def read(tokens, clip, start_second, window_seconds):
  return tokens.read(
    clip,
    start_second=start_second,
    window_seconds=window_seconds,
    streams=STREAMS,
  )


def test_streams_splits_and_descriptions_are_carried_over(directory, tokens):
  assert tuple(tokens.streams) == STREAMS
  assert tokens.streams['acoustic'] == token_toys.FAST
  audio = corpus.AudioCorpus(directory / 'audio')
  for split in ('train', 'validation'):
    assert tokens.clips(split).tolist() == audio.clips(split).tolist()
  for clip in (0, 7):
    assert tokens.describe(clip) == audio.describe(clip)
    assert tokens.describe(clip).facts['number'] == clip


@pytest.mark.parametrize(
  'clip, start, seconds', [(0, 0, 2), (8, 0, 1), (10, 1, 1)]
)
def test_a_window_holds_the_frames_of_its_seconds(tokens, clip, start, seconds):
  window = read(tokens, clip, start, seconds)
  whole = token_toys.expected(clip, seconds=9)
  for name, rate in (('semantic', 2), ('acoustic', 5)):
    frames = slice(start * rate, (start + seconds) * rate)
    np.testing.assert_array_equal(window[name], whole[name][frames])
  np.testing.assert_array_equal(window['mulan'], whole['mulan'][start, [1]])


def test_a_window_longer_than_the_clip_holds_its_whole_frames(tokens):
  # 2 × 1009 + 13 samples: 2.0129 s are 4 slow frames and 10 fast ones.
  window = read(tokens, 0, 0, 3)
  assert {name: len(codes) for name, codes in window.items()} == {
    'mulan': 1,
    'semantic': 4,
    'acoustic': 10,
  }
  # 2.97 s are 5 and 14, of which the last second has 1 and 4.
  assert [len(read(tokens, 10, 2, 3)[n]) for n in STREAMS] == [1, 1, 4]
  np.testing.assert_array_equal(
    read(tokens, 10, 2, 3)['acoustic'][:, 0], 10 + np.arange(10, 14)
  )


def test_the_condition_is_that_of_the_window_or_of_the_shortest(tokens):
  levels = np.arange(3)
  for window, looked_up in ((3, 3), (2, 2), (1, 2)):
    np.testing.assert_array_equal(
      read(tokens, 5, 1, window)['mulan'],
      [5 + 1 + 10 * looked_up + levels],
    )
  with pytest.raises(ValueError, match='windows of 3, 2 s, not of 5 s'):
    read(tokens, 5, 0, 5)


def test_only_what_is_asked_for_is_looked_up(tokens):
  window = tokens.read(
    3, start_second=0, window_seconds=7, streams=['acoustic']
  )
  assert set(window) == {'acoustic'}


@pytest.mark.parametrize('start, window', [(-1, 2), (3, 1), (0, 0)])
def test_what_is_outside_the_clip_is_an_error(tokens, start, window):
  with pytest.raises(ValueError, match=f'at second {start} is outside clip 4'):
    read(tokens, 4, start, window)


def test_a_stream_is_found_by_name_with_its_fingerprint(directory):
  found = token_corpus.stream(directory / 'tokens', name='semantic')
  assert found == token_toys.SLOW
  with pytest.raises(ValueError, match="no stream 'melody'; it has mulan, sem"):
    token_corpus.stream(directory / 'tokens', name='melody')


def test_usage_counts_every_frame_once(directory, tokens):
  usage = token_corpus.read_usage(directory / 'tokens')
  seconds = [tokens.num_seconds(clip) for clip in range(11)]
  for stream in (token_toys.SLOW, token_toys.FAST):
    frames = sum(token_corpus.whole_frames(s, stream) for s in seconds)
    assert usage[stream.name].sum(axis=1).tolist() == (
      [frames] * stream.num_codebooks
    )
  # Clip 0 is the only one whose first frame has code 0.
  assert usage['acoustic'][0, 0] == 1
  assert usage['acoustic'][3, :21].sum() == 0


def test_codebooks_are_kept_as_the_models_have_them(directory, tmp_path):
  kept = token_corpus.codebooks(directory / 'tokens')
  assert kept.keys() == {'semantic'}
  np.testing.assert_array_equal(
    kept['semantic'], token_toys.CODEBOOKS['semantic']
  )
  older = tmp_path / 'older'
  shutil.copytree(directory / 'tokens', older)
  (older / token_corpus.CODEBOOKS_FILE).unlink()
  with pytest.raises(ValueError, match='no codebooks.npz.*once more, which'):
    token_corpus.codebooks(older)


def test_a_bucket_is_told_to_be_mounted_whatever_is_read_of_it_first():
  for read_first in (token_corpus.codebooks, token_corpus.read_info):
    with pytest.raises(ValueError, match='gs://b/tokens is not a local.*mount'):
      read_first('gs://b/tokens')


def test_what_is_not_a_token_corpus_is_named(directory, tmp_path):
  with pytest.raises(ValueError, match='no finished token corpus'):
    token_corpus.TokenCorpus(directory / 'audio')
  fields = json.loads(
    (directory / 'tokens' / token_corpus.TOKENS_FILE).read_text()
  )
  fields['format_version'] = 99
  (tmp_path / token_corpus.TOKENS_FILE).write_text(json.dumps(fields))
  with pytest.raises(ValueError, match='is version 99'):
    token_corpus.TokenCorpus(tmp_path)


def test_frames_are_whole_and_counted_exactly():
  seconds = fractions.Fraction(7 * toys.RATE_HZ - 1, toys.RATE_HZ)
  assert token_corpus.whole_frames(seconds, token_toys.FAST) == 34
  assert token_corpus.whole_frames(seconds, token_toys.CLIP) == 1


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'rate_hz': '3/2'}, 'whole number of frames'),
    ({'codebook_size': 2**16 + 1}, '65537 codes a level'),
  ],
)
def test_streams_that_a_record_cannot_hold_are_refused(changes, message):
  stream = dataclasses.replace(token_toys.FAST, **changes)
  with pytest.raises(ValueError, match=message):
    token_corpus.RecordLayout(streams=(stream,), condition_seconds=())


def test_conditions_want_window_lengths():
  with pytest.raises(ValueError, match="'mulan' has no rate; say for which"):
    token_corpus.RecordLayout(streams=(token_toys.CLIP,), condition_seconds=())


def test_the_share_of_frames_that_begin_a_run_is_of_the_training_split(tokens):
  """Each semantic code of the toys is the one before it plus one."""
  directory = tokens._directory
  assert token_corpus.distinct_share(directory, name='semantic') == 1
  with pytest.raises(ValueError, match="has no stream 'melody'"):
    token_corpus.distinct_share(directory, name='melody')


def test_the_share_is_of_the_frames_of_whole_clips(tmp_path):
  class Slow(token_toys.CountingEncoder):
    def encode(self, waveform, **options):
      codes = super().encode(waveform, **options)
      return codes | {'semantic': codes['semantic'] // 2}

  token_toys.write(tmp_path, Slow(), num_clips=5)
  tokens = token_corpus.TokenCorpus(tmp_path / 'tokens')
  begun = total = 0
  for clip in tokens.clips('train'):
    number = tokens.describe(clip).facts['number']
    num_frames = int(tokens.num_seconds(clip) * 2)
    codes = (number + np.arange(num_frames)) // 2
    begun, total = begun + np.sum(np.diff(codes)), total + num_frames - 1
  found = token_corpus.distinct_share(tmp_path / 'tokens', name='semantic')
  assert found == fractions.Fraction(int(begun), total)
