# SPDX-License-Identifier: Apache-2.0
from musiclm_jax.data import corpus, silence, token_corpus


def test_every_kind_of_data_is_there_to_be_read(tmp_path):
  made = silence.write_all(tmp_path)
  assert len(corpus.AudioCorpus(made['CORPUS']).index) == 3
  streams = token_corpus.TokenCorpus(made['TOKENS']).streams
  assert {name: s.num_codebooks for name, s in streams.items()} == {
    'mulan': 12,
    'semantic': 1,
    'acoustic': 12,
  }
  pieces = (tmp_path / 'bert' / 'vocab.txt').read_text().split('\n')
  assert len(set(pieces)) == 30522
