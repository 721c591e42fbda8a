# SPDX-License-Identifier: Apache-2.0
"""FMA's layout, on tiny generated files."""

import pytest

from musiclm_jax.data import sources
from musiclm_jax.data.tasks import fma
from tests.data.tasks import files

# The header of the real table: groups, names, and a row for the index' name.
TRACKS = """\
,album,artist,set,set,track,track,track,track
,title,name,split,subset,genre_top,license,tags,title
track_id,,,,,,,,
2,Way of Life,AWOL,training,small,Hip-Hop,CC BY-NC-SA,"['old', 'tape']",Food
5,Way of Life,AWOL,validation,medium,,CC BY-NC-SA,[],"Life, This"
10,Constant,Kurt Vile,test,large,Pop,CC BY-NC-ND,[],Freeway
20,Niris,Nicky Cook,training,full,,CC BY-NC-ND,[],Spiritual Level
"""


def _make(directory, subset):
  (directory / 'tracks.csv').write_text(TRACKS)
  files.write_tone(directory / 'audio' / '000' / '000002.mp3')
  return fma.Fma(
    metadata_dir=str(directory),
    audio_dir=str(directory / 'audio'),
    subset=subset,
  )


def test_a_subset_holds_the_smaller_ones(tmp_path):
  ids = {
    subset: [ref.id for ref in _make(tmp_path, subset).clips()]
    for subset in fma.SUBSETS
  }
  assert ids == {
    'small': ['000002'],
    'medium': ['000002', '000005'],
    'large': ['000002', '000005', '000010'],
    'full': ['000002', '000005', '000010', '000020'],
  }


def test_the_official_split_and_facts_are_kept(tmp_path):
  source = _make(tmp_path, 'large')
  refs = source.clips()
  assert [ref.split for ref in refs] == ['train', 'validation', 'test']
  clip = source.load(refs[0])
  assert files.pitch_hz(clip) == pytest.approx(211, abs=1)
  assert clip.facts == {
    'title': 'Food',
    'artist': 'AWOL',
    'album': 'Way of Life',
    'genre': 'Hip-Hop',
    'license': 'CC BY-NC-SA',
    'tags': ['old', 'tape'],
  }
  with pytest.raises(sources.RejectedClip, match='missing.*000/000005.mp3'):
    source.load(refs[1])


def test_wrong_metadata_is_named(tmp_path):
  source = _make(tmp_path, 'large')
  (tmp_path / 'tracks.csv').write_text('a,b\nc,d\n')
  with pytest.raises(ValueError, match='lacks the columns set/split, set/sub'):
    source.clips()
  (tmp_path / 'tracks.csv').unlink()
  with pytest.raises(ValueError, match='fma_metadata.zip'):
    source.clips()
  with pytest.raises(ValueError, match="not 'huge'"):
    _make(tmp_path, 'huge')
