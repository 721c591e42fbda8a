# SPDX-License-Identifier: Apache-2.0
"""MusicCaps' layout, on tiny generated files."""

import pytest

from musiclm_jax.data import sources
from musiclm_jax.data.tasks import musiccaps
from tests.data.tasks import files

TABLE = """\
ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,\
is_balanced_subset,is_audioset_eval
-0Gj8-vB1q4,2,4,"/m/0140xf,/m/02cjck","['low quality', 'ballad']",\
"A voice, sad.",4,False,True
0Z-1Ab,30,40,/m/0x,"['flute']",Missing on YouTube.,2,True,False
"""


def _make(directory, *, audio, seconds):
  (directory / 'table.csv').write_text(TABLE)
  files.write_tone(directory / 'audio' / '-0Gj8-vB1q4.flac', seconds=seconds)
  return musiccaps.MusicCaps(
    csv_path=str(directory / 'table.csv'),
    audio_dir=str(directory / 'audio'),
    audio=audio,
  )


@pytest.mark.parametrize(('audio', 'seconds'), [('clips', 2), ('videos', 5)])
def test_clips_are_read_whole_and_cut_out_of_videos(tmp_path, audio, seconds):
  source = _make(tmp_path, audio=audio, seconds=seconds)
  found, missing = source.clips()
  assert (found.id, found.split) == ('-0Gj8-vB1q4', 'test')
  clip = source.load(found)
  assert len(clip.waveform) == 2 * files.RATE_HZ
  assert clip.captions == ('A voice, sad.',)
  assert clip.facts == {
    'aspects': ['low quality', 'ballad'],
    'start_s': 2.0,
    'end_s': 4.0,
    'is_audioset_eval': True,
  }
  with pytest.raises(sources.RejectedClip, match='missing'):
    source.load(missing)


def test_a_whole_video_in_place_of_a_clip_is_rejected(tmp_path):
  source = _make(tmp_path, audio='clips', seconds=5)
  with pytest.raises(sources.RejectedClip, match="5.0 s.*audio='videos'"):
    source.load(source.clips()[0])


def test_a_wrong_table_is_named(tmp_path):
  source = _make(tmp_path, audio='clips', seconds=2)
  (tmp_path / 'table.csv').write_text('ytid,caption\n')
  with pytest.raises(ValueError, match="lacks.*'aspect_list', 'end_s', 'st"):
    source.clips()
  with pytest.raises(ValueError, match="'clips' or 'videos', not 'mp3'"):
    _make(tmp_path, audio='mp3', seconds=2)


def test_the_balanced_subset_is_chosen_by_its_column(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_text(TABLE)
  assert list(musiccaps.read_table(path)) == ['-0Gj8-vB1q4', '0Z-1Ab']
  assert list(musiccaps.read_table(path, balanced=True)) == ['0Z-1Ab']
  path.write_text(TABLE.replace(',True,', ',False,'))
  with pytest.raises(ValueError, match='No row of .* is of the balanced'):
    musiccaps.read_table(path, balanced=True)
  path.write_text(TABLE.replace('is_balanced_subset', 'balanced'))
  with pytest.raises(ValueError, match="lacks .*'is_balanced_subset'"):
    musiccaps.read_table(path, balanced=True)
