# SPDX-License-Identifier: Apache-2.0
import re

from musiclm_jax.data.tunebook import arrangement, instruments, vocabulary


def test_sentences_are_many_tidy_and_each_only_once():
  found = vocabulary.sentences()
  assert 1000 < len(found) == len(set(found))
  for sentence in found:
    assert re.fullmatch(r"[A-Z][\w' ,:-]*\.", sentence), sentence
    assert not re.search(r'\ba [aeiou]|\ban [^aeiou]', sentence), sentence


def test_every_instrument_tempo_and_kind_of_tune_is_spoken_of():
  text = ' '.join(vocabulary.sentences()).lower()
  words = [*instruments.INSTRUMENTS, *instruments.FAMILIES]
  words += [*arrangement.TUNE_TYPES, 'very slow', 'moderate', 'very fast']
  assert not [word for word in words if word.lower() not in text]
