# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.export import model_card, parity
from musiclm_jax.streams import TokenStream


def card(model, **options):
  stream = TokenStream(
    name='acoustic', rate_hz=50, num_codebooks=3, codebook_size=17
  )
  found = bundle.Bundle(
    kind='codec',
    config=None,
    directory=model,
    weights={'params': {'a': np.zeros((1000, 7)), 'b': np.zeros(3000)}},
    stream_out=stream,
    fingerprint='0123456789abcdef',
  )
  sheet = parity.Sheet(clips='two clips', fingerprints={})
  for scale in (1.0, 4.0):
    sheet.values(
      'codec',
      'waveform',
      wanted=np.full((2, 3), scale),
      got=np.full((2, 3), scale + 0.25),
    )
  sheet.values('music_lm', 'x', wanted=np.ones(3), got=np.ones(3))
  sheet.codes(
    'codec', 'codes', wanted=np.arange(4), got=np.asarray([0, 1, 2, 5])
  )
  return model_card.card({'codec': found}, sheet=sheet, model=model, **options)


def test_figures_are_those_of_the_weights_and_the_sheet(tmp_path):
  text = card(tmp_path, license='cc-by-4.0')
  assert text.startswith('---\nlicense: "cc-by-4.0"\n')
  assert (
    '| codec | 0.01 M | acoustic: 3 level(s) of 17 codes, 50 Hz |'
    ' `0123456789ab` |'
  ) in text
  # The largest error of both, and the larger share; three codes of four.
  assert '| codec | 3 | 0.25 | 0.25 | 75 % |' in text
  assert '| music_lm | 1 | 0 | 0 |  |' in text


def test_what_nobody_wrote_down_is_asked_for(tmp_path):
  text = card(tmp_path)
  assert text.startswith('---\nlicense: "unknown"\n')
  assert '--license' in text
  assert 'no corpus lay beside the model' in text
  assert '\n## Training\n\nNot stated. Say here how' in text
  assert 'No report lay' in text


def test_how_it_was_trained_stands_below_its_heading(tmp_path):
  told = '# Codec\n7 h on two cores, /home/me/runs/codec.\n'
  code = '```\n# Once:\nmusiclm train\n```\n'
  text = card(tmp_path, training=f'{told}{code}# Stages\nMore.')
  assert '\n## Training\n\n### Codec\n7 h on two cores, codec.\n' in text
  assert f'\n{code}### Stages\nMore.\n\n##' in text
  assert 'Say here how' not in text


def test_the_corpus_and_the_reports_beside_the_model_are_told(tmp_path):
  (tmp_path / 'corpus').mkdir()
  (tmp_path / 'corpus' / 'corpus.json').write_text(
    json.dumps(
      {
        'source': 'tunebook',
        'source_config': "Tunebook(seed=0, path='/home/me/tunes')",
        'sample_rate_hz': 100,
        'splits': {'train': {'clips': 5, 'samples': 720_000}},
      }
    )
  )
  (tmp_path / 'evaluation' / 'codec').mkdir(parents=True)
  (tmp_path / 'evaluation' / 'codec' / 'codec.md').write_text(
    f'# Report\n{tmp_path}/codec on a corpus\n'
    '`/home/me/runs/tunes`, see https://a.org/b/c; 1/2/3 <b></b></b>\n'
  )
  text = card(tmp_path)
  assert (
    "`tunebook` (`Tunebook(seed=0, path='tunes')`): 5 clips, 2.00 h of train."
    in text
  )
  assert '### codec\n\n### Report\ncodec on a corpus' in text
  assert '`tunes`, see https://a.org/b/c; 1/2/3 <b></b></b>\n' in text
  assert str(tmp_path) not in text and '/home' not in text


@pytest.mark.parametrize('license', ['a: b', 'GPL # 3', '"x"\n---', 'é: {b}'])
def test_a_licence_of_any_words_is_one_string_of_the_front_matter(
  tmp_path, license
):
  line = card(tmp_path, license=license).split('\n')[1]
  # JSON is YAML.
  assert json.loads(line.removeprefix('license: ')) == license
