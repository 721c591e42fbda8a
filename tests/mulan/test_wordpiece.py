# SPDX-License-Identifier: Apache-2.0
import json
import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest

from musiclm_jax.checkpoints import config_json
from musiclm_jax.mulan import wordpiece

TEXTS = (
  'Solo violin, playing softly.',
  'A reel for solo flute, played SOFTLY at 112 BPM',
  'Flute and violin: a café reel.',
)


def test_the_commonest_pair_is_merged_first_and_ties_go_by_the_alphabet():
  vocabulary = wordpiece.train(['ab ab ab cb cb', 'da'], num_tokens=99)
  # Counts: (a, ##b) 3, (c, ##b) 2, (d, ##a) 1.
  assert vocabulary.tokens == (
    *wordpiece.SPECIAL,
    *('##a', '##b', 'a', 'c', 'd'),
    *('ab', 'cb', 'da'),
  )
  tied = wordpiece.train(['yx cb'], num_tokens=10)
  assert tied.tokens[-1] == 'cb'


def test_counts_follow_what_was_merged_before():
  # After (##b, ##c), which is in all four, (a, ##bc) has 3.
  vocabulary = wordpiece.train(['abc abc abc xbc'], num_tokens=99)
  assert vocabulary.tokens[-3:] == ('##bc', 'abc', 'xbc')
  # Overlapping pairs of one word: a ##a ##a ##a, where (##a, ##a) is twice.
  assert wordpiece.train(['aaaa'], num_tokens=99).tokens[-3:] == (
    '##aa',
    '##aaa',
    'aaaa',
  )


def test_texts_become_ids_and_back():
  vocabulary = wordpiece.train(TEXTS, num_tokens=200)
  ids = vocabulary.ids('Softly played: solo violin')
  pieces = [vocabulary.tokens[number] for number in ids]
  assert pieces == [
    '[CLS]',
    'softly',
    'played',
    ':',
    'solo',
    'violin',
    '[SEP]',
  ]
  # Case and accents are off; what no piece can write is unknown.
  assert vocabulary.ids('CAFÉ') == vocabulary.ids('cafe')
  unknown = vocabulary.tokens.index('[UNK]')
  assert vocabulary.ids('Ω')[1:-1] == [unknown]
  cased = wordpiece.train(TEXTS, num_tokens=200, lowercase=False)
  assert cased.ids('SOFTLY') != cased.ids('softly')


def test_rows_are_padded_cut_and_empty_where_there_is_no_text():
  vocabulary = wordpiece.train(TEXTS, num_tokens=200)
  whole = vocabulary.ids(TEXTS[1])
  ids, mask = vocabulary([TEXTS[0], TEXTS[1], ' '], num_tokens=9)
  assert ids.shape == mask.shape == (3, 9)
  assert ids.dtype == np.int32
  assert list(ids[0]) == [*vocabulary.ids(TEXTS[0]), 0]
  assert mask[0].tolist() == [True] * 8 + [False]
  assert list(ids[1]) == [*whole[:8], whole[-1]]
  assert mask[1].all()
  assert not mask[2].any()


def test_the_order_of_texts_and_the_process_change_nothing():
  texts = [f'{a}{b}{a} {b}{a}' for a in 'klmnop' for b in 'klmnop']
  wanted = wordpiece.train(texts, num_tokens=60)
  random.Random(3).shuffle(texts)
  assert wordpiece.train(texts, num_tokens=60) == wanted
  code = (
    'import json, sys; from musiclm_jax.mulan import wordpiece;'
    ' texts = json.load(sys.stdin);'
    ' print(json.dumps(wordpiece.train(texts, num_tokens=60).tokens))'
  )
  other = subprocess.run(
    [sys.executable, '-c', code],
    input=json.dumps(texts),
    env=os.environ | {'PYTHONHASHSEED': '7'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert tuple(json.loads(other.stdout)) == wanted.tokens


def test_a_vocabulary_survives_a_bundle_and_a_pickle():
  vocabulary = wordpiece.train(TEXTS, num_tokens=200)
  vocabulary.ids('made once')
  for copy in (
    config_json.from_json(config_json.to_json(vocabulary)),
    pickle.loads(pickle.dumps(vocabulary)),
  ):
    assert copy == vocabulary
    assert copy.ids(TEXTS[2]) == vocabulary.ids(TEXTS[2])


def test_what_cannot_be_is_an_error():
  with pytest.raises(ValueError, match='room for them; raise num_tokens'):
    wordpiece.train(TEXTS, num_tokens=20)
  with pytest.raises(ValueError, match=r"lacks the special.*'\[SEP\]'"):
    wordpiece.WordPiece(tokens=('[PAD]', '[UNK]', '[CLS]', 'a'))
  with pytest.raises(ValueError, match='twice'):
    wordpiece.WordPiece(tokens=(*wordpiece.SPECIAL, 'a', 'a'))
