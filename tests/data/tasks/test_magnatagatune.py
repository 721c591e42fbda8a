# SPDX-License-Identifier: Apache-2.0
"""MagnaTagATune's layout, on tiny generated files."""

import pytest

from musiclm_jax.data import sources
from musiclm_jax.data.tasks import magnatagatune
from tests.data.tasks import files

ROWS = [
  ('clip_id', 'no voice', 'singer', 'flute', 'mp3_path'),
  ('2', '0', '1', '1', 'f/bach-solo-01-aria-30-59.mp3'),
  ('6', '0', '0', '0', 'f/bach-solo-01-aria-59-88.mp3'),
  ('10', '1', '0', '0', 'c/mozart-02-duo-0-29.mp3'),
  ('11', '1', '0', '0', '3/haydn-03-trio-0-29.mp3'),
  # Seen before in folder 3: the whole song trains.
  ('12', '1', '0', '0', 'd/haydn-03-trio-29-58.mp3'),
]


def _make(directory):
  table = '\n'.join('\t'.join(f'"{cell}"' for cell in row) for row in ROWS)
  (directory / 'annotations_final.csv').write_text(table + '\n')
  files.write_tone(directory / 'f' / 'bach-solo-01-aria-30-59.mp3')
  (directory / 'f' / 'bach-solo-01-aria-59-88.mp3').touch()
  return magnatagatune.MagnaTagATune(
    annotations_csv=str(directory / 'annotations_final.csv'),
    audio_dir=str(directory),
  )


def test_splits_follow_the_folders_but_never_cut_a_song(tmp_path):
  refs = _make(tmp_path).clips()
  assert [(ref.id.partition('-')[0], ref.split) for ref in refs] == [
    ('3/haydn', 'train'),
    ('c/mozart', 'validation'),
    ('d/haydn', 'train'),
    ('f/bach', 'test'),
    ('f/bach', 'test'),
  ]
  assert refs[0].group == refs[2].group == 'haydn-03-trio'


def test_tags_are_facts_and_a_caption(tmp_path):
  source = _make(tmp_path)
  first, empty = source.clips()[3:]
  clip = source.load(first)
  assert clip.captions == ('singer, flute',)
  assert clip.facts == {'tags': ['singer', 'flute']}
  # The real set has files without a byte, too.
  with pytest.raises(sources.RejectedClip, match='empty'):
    source.load(empty)


def test_a_table_of_another_kind_is_named(tmp_path):
  source = _make(tmp_path)
  (tmp_path / 'annotations_final.csv').write_text('clip_id,mp3_path\n1,x\n')
  with pytest.raises(ValueError, match='tab separated columns from clip_id'):
    source.clips()
