# SPDX-License-Identifier: Apache-2.0
import argparse

from musiclm_jax.cli.evaluations import _clips
from musiclm_jax.data import corpus as corpora
from tests.data import toys


def test_pieces_of_a_corpus_go_by_their_ids(tmp_path):
  toys.write(tmp_path, toys.Sines(num_clips=11))
  options = argparse.Namespace(split=['train'], num_clips=None, seconds=1)
  side = _clips.of_corpus(str(tmp_path), options=options)
  corpus = corpora.AudioCorpus(tmp_path)
  ids = [corpus.describe(number).id for number in corpus.clips('train')]
  assert [clip.name for clip in side.clips] == ids
  assert side.count == len(ids) == len(set(ids)) > 1
