# SPDX-License-Identifier: Apache-2.0
"""A folder without captions becomes a data set with them."""

import json

import pytest

from musiclm_jax.audio import io
from musiclm_jax.checkpoints import bundle
from musiclm_jax.cli import caption
from musiclm_jax.data import corpus, writer
from musiclm_jax.data.tasks import folder
from tests.conditioning import toys

SENTENCES = [f'It has band {n}.' for n in range(toys.NUM_BANDS)]


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  directory = tmp_path_factory.mktemp('model')
  toys.publish_towers(directory)
  return directory


@pytest.fixture
def music(tmp_path):
  """Two tones, one below a folder, and a file that is no audio."""
  directory = tmp_path / 'music'
  (directory / 'live').mkdir(parents=True)
  for name, band in (('one.wav', 1), ('live/fünf.flac', 5)):
    io.write(
      directory / name,
      toys.tone(band, seconds=7),
      sample_rate_hz=toys.RATE_HZ,
    )
  (directory / 'broken.wav').write_text('no audio')
  return directory


@pytest.fixture
def vocabulary(tmp_path):
  path = tmp_path / 'sentences.txt'
  path.write_text('\n'.join(['', *SENTENCES, SENTENCES[0], '  ']))
  return path


def run(model, music, *more):
  caption.main([f'--model={model}', f'--folder={music}', *map(str, more)])


def test_the_data_set_reads_what_was_written(model, music, vocabulary, capsys):
  run(
    model, music, '--vocabulary', vocabulary, '--candidates=1', '--captions=1'
  )
  out = capsys.readouterr().out
  assert '1 captions of 2 files' in out
  assert '1 left out, not audio' in out and 'broken.wav' in out
  source = folder.Folder(directory=str(music))
  clips = {
    ref.id: source.load(ref) for ref in source.clips() if ref.id[0] != 'b'
  }
  assert clips['one.wav'].captions == ('It has band 1.',)
  assert clips['live/fünf.flac'].captions == ('It has band 5.',)
  fingerprint = bundle.load(model).fingerprint
  assert clips['one.wav'].facts == {caption.FACT: fingerprint}


def test_a_corpus_that_is_prepared_of_it_holds_the_captions(
  model, music, vocabulary, tmp_path
):
  run(model, music, '--vocabulary', vocabulary, '--candidates=4')
  writer.write_corpus(
    folder.Folder(directory=str(music)),
    tmp_path / 'corpus',
    sample_rate_hz=toys.RATE_HZ,
    num_workers=0,
    max_bad_share=0.5,
    show_progress=False,
  )
  prepared = corpus.AudioCorpus(tmp_path / 'corpus')
  written = {
    row['file']: tuple(row['captions'])
    for row in map(json.loads, open(music / 'captions.jsonl', encoding='utf-8'))
  }
  assert len(written) == prepared.info.num_clips == 2
  for clip in range(2):
    described = prepared.describe(clip)
    assert described.captions == written[described.id]
    assert len(set(described.captions)) == 3


def test_the_same_seed_draws_the_same_captions(model, music, vocabulary):
  def drawn(*more):
    run(model, music, '--vocabulary', vocabulary, '--candidates=7', *more)
    path = music / 'captions.jsonl'
    text = path.read_text()
    path.unlink()
    return text

  first = drawn()
  assert drawn() == first
  assert any(drawn(f'--seed={seed}') != first for seed in (1, 2, 3))


def test_captions_are_never_written_over(model, music):
  mine = 'file,caption\none.wav,Mine.\n'
  (music / 'captions.csv').write_text(mine)
  with pytest.raises(ValueError, match='captions.csv exists; move it away'):
    run(model, music)
  assert (music / 'captions.csv').read_text() == mine
  assert not (music / 'captions.jsonl').exists()


def test_a_vocabulary_without_sentences_is_an_error(model, music, tmp_path):
  (tmp_path / 'empty.txt').write_text('\n\n')
  with pytest.raises(ValueError, match='empty.txt has no sentences'):
    run(model, music, '--vocabulary', tmp_path / 'empty.txt')


def test_without_a_vocabulary_the_tunebooks_sentences_are_taken():
  assert 'Solo harp, playing softly at a slow tempo.' in (
    caption.read_vocabulary(None)
  )


def test_a_folder_of_nothing_that_can_be_read_says_why(model, tmp_path):
  (tmp_path / 'broken.wav').write_text('no audio')
  with pytest.raises(ValueError, match="no audio file.*'not audio': 1"):
    run(model, tmp_path)
