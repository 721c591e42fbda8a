# SPDX-License-Identifier: Apache-2.0
"""`musiclm data`: a user's folder becomes a corpus, and its report."""

import pytest

from musiclm_jax.cli import data, flags
from tests.data.tasks import files


def _prepare(tmp_path, *more):
  data.main(
    [
      'prepare',
      '--gin_file=data/folder.gin',
      f'--gin.FOLDER="{tmp_path / "music"}"',
      '--gin.SAMPLE_RATE_HZ=8000',
      f'--output={tmp_path / "corpus"}',
      *more,
    ]
  )


def test_a_folder_is_prepared_and_reported(tmp_path, capsys):
  for name in ('one.wav', 'two [live].flac', 'three.mp3'):
    files.write_tone(tmp_path / 'music' / name)
  (tmp_path / 'music' / 'four.wav').write_bytes(b'RIFF')
  # Worker processes take the source out of gin's hands.
  _prepare(tmp_path, '--workers=2', '--gin.MAX_BAD_SHARE=0.3')
  told = capsys.readouterr().out
  assert '3 clips' in told
  assert 'rejected 1 of 4: 1 not audio' in told
  data.main(['report', str(tmp_path / 'corpus')])
  assert 'four.wav' in capsys.readouterr().out


def test_what_is_missing_is_one_clear_error(tmp_path):
  with pytest.raises(flags.UsageError, match='FOLDER is required'):
    data.main(
      ['prepare', '--gin_file=data/folder.gin', '--output', str(tmp_path)]
    )
  with pytest.raises(ValueError, match='no folder .*music'):
    _prepare(tmp_path)
  with pytest.raises(flags.UsageError, match='--output'):
    data.main(['prepare', '--gin_file=data/folder.gin'])
  with pytest.raises(ValueError, match='no finished corpus'):
    data.main(['report', str(tmp_path)])


@pytest.mark.parametrize(
  'name', ['tunebook', 'fma', 'musiccaps', 'magnatagatune', 'folder']
)
def test_every_gin_file_of_a_data_set_parses_and_reaches_its_source(name):
  from musiclm_jax.cli import setup
  from musiclm_jax.data import writer

  parser = flags.Parser(prog='test')
  parser.add_gin_flags()
  macros = [
    'FOLDER', 'METADATA_DIR', 'AUDIO_DIR', 'CSV_PATH', 'ANNOTATIONS'
  ]  # fmt: skip
  path = setup.gin_directory() / 'data' / f'{name}.gin'
  required = [m for m in macros if f'{m} = %gin.REQUIRED' in path.read_text()]
  options = parser.parse_args(
    [f'--gin_file=data/{name}.gin', *(f'--gin.{m}="/none"' for m in required)]
  )
  setup.configure(options, root=writer.write_corpus, supplied=['directory'])
