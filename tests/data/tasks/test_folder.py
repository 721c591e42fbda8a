# SPDX-License-Identifier: Apache-2.0
"""A user's folder, with and without captions."""

import json
import pickle

import pytest

from musiclm_jax.data import corpus, sources, writer
from musiclm_jax.data.tasks import folder
from tests.data.tasks import files

CSV = """\ufefffile,caption,split,group,mood
one.flac,A slow waltz.,train,,calm
one.flac,"Accordion, alone.",,,
live/two.mp3,Fast reggae.,validation,concert,
gone.wav,Nobody has it.,,,
"""

ROWS = [
  {'file': 'one.flac', 'caption': 'A slow waltz.', 'split': 'train'},
  {'file': 'one.flac', 'captions': ['Accordion, alone.'], 'mood': 'calm'},
  {
    'file': 'live/two.mp3',
    'caption': 'Fast reggae.',
    'split': 'validation',
    'group': 'concert',
  },
  {'file': 'gone.wav'},
]


def _make(directory, captions):
  files.write_tone(directory / 'one.flac', pitch_hz=211)
  files.write_tone(directory / 'live' / 'two.mp3', pitch_hz=307)
  files.write_tone(directory / 'three.wav', pitch_hz=401)
  if captions == 'csv':
    (directory / 'captions.csv').write_text(CSV, encoding='utf-8')
  if captions == 'jsonl':
    lines = [json.dumps(row) for row in ROWS]
    (directory / 'captions.jsonl').write_text('\n'.join(lines) + '\n\n')
  return folder.Folder(directory=str(directory))


@pytest.mark.parametrize('captions', ['csv', 'jsonl'])
def test_captions_splits_and_facts_come_from_either_format(tmp_path, captions):
  source = pickle.loads(pickle.dumps(_make(tmp_path, captions)))
  refs = {ref.id: ref for ref in source.clips()}
  assert list(refs) == ['gone.wav', 'live/two.mp3', 'one.flac', 'three.wav']
  assert refs['one.flac'].split == 'train'
  assert refs['live/two.mp3'].split == 'validation'
  assert refs['live/two.mp3'].group == 'concert'
  one = source.load(refs['one.flac'])
  assert one.captions == ('A slow waltz.', 'Accordion, alone.')
  assert one.facts == {'mood': 'calm'}
  two = source.load(refs['live/two.mp3'])
  assert files.pitch_hz(two) == pytest.approx(307, abs=1)
  assert source.load(refs['three.wav']).captions == ()
  with pytest.raises(sources.RejectedClip, match='missing'):
    source.load(refs['gone.wav'])


def test_a_folder_without_captions_becomes_a_corpus(tmp_path):
  source = _make(tmp_path / 'music', None)
  info = writer.write_corpus(
    source,
    tmp_path / 'corpus',
    sample_rate_hz=8000,
    num_workers=0,
    show_progress=False,
  )
  assert info.num_clips == 3
  opened = corpus.AudioCorpus(tmp_path / 'corpus')
  assert opened.describe(0).id == 'live/two.mp3'
  assert len(opened.waveform(1)) == 12000


def test_a_file_with_two_splits_or_two_caption_files_is_an_error(tmp_path):
  source = _make(tmp_path, 'csv')
  table = tmp_path / 'captions.csv'
  table.write_text(CSV.replace('alone.",,', 'alone.",test,'))
  with pytest.raises(ValueError, match=r"one.flac more than one split: \['te"):
    source.clips()
  source = _make(tmp_path, 'jsonl')
  with pytest.raises(ValueError, match='both captions.csv and captions.jsonl'):
    source.clips()


def test_a_bad_line_of_captions_is_named(tmp_path):
  source = _make(tmp_path, None)
  (tmp_path / 'captions.jsonl').write_text('{"file": "one.flac"}\n{oops\n')
  with pytest.raises(ValueError, match='captions.jsonl:2 is not JSON'):
    source.clips()
  (tmp_path / 'captions.jsonl').write_text('{"caption": "whose?"}\n')
  source = folder.Folder(directory=str(tmp_path))
  with pytest.raises(ValueError, match='captions.jsonl:1 names no file'):
    source.clips()
