# SPDX-License-Identifier: Apache-2.0
"""The TFDS builder, on a corpus of made-up tunes."""

import importlib
import json
import pathlib

import numpy as np
import pytest

from musiclm_jax.data.tasks import tunebook
from musiclm_jax.data.tunebook import catalogue
from tests.data.tunebook import pieces

pytest.importorskip('tensorflow_datasets')

# TensorFlow alone takes ten seconds to import.
pytestmark = pytest.mark.slow


def test_the_builder_gives_the_facts_as_features(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
  import tensorflow_datasets as tfds

  folder = pieces.write_folder(tmp_path / 'corpus')
  (folder / 'airdsAirs' / 'book1.abc').write_text(pieces.JIG_AGAIN)
  (folder / 'oneills1850' / '0001-0050.abc').write_text(
    pieces.REEL.format(number=1, title='The Long Reel', bar='c2AF DFAc')
  )
  monkeypatch.setattr(catalogue, 'corpus_folder', lambda: folder)
  tunebook._catalogue.cache_clear()
  module = importlib.import_module('data.tunebook.tunebook_dataset_builder')
  builder = module.Builder(data_dir=tmp_path / 'data', config='full')
  builder.download_and_prepare()
  tunebook._catalogue.cache_clear()
  found = {
    example['id'].decode(): example
    for split in builder.info.splits
    for example in tfds.as_numpy(builder.as_dataset(split=split))
  }
  assert len(found) == 5
  jig = found['ryansMammoth/MadeUpJig.abc/1/0']
  facts = json.loads(jig['facts'])
  assert jig['meter'] == b'6/8' and jig['mode'] == b'dorian'
  assert jig['tempo_bpm'] == facts['tempo_bpm']
  assert [name.decode() for name in jig['instruments']] == facts['instruments']
  notes = jig['notes']
  np.testing.assert_allclose(
    notes['onset_seconds'], facts['notes']['onset_seconds'], rtol=1e-6
  )
  assert notes['pitch'].tolist() == facts['notes']['pitch']
  assert jig['audio'].dtype == np.int16
  assert len(jig['audio']) >= 45 * 24_000
  assert len(jig['captions']) == 4
  again = found['airdsAirs/book1.abc/1/0']
  assert again['group'] == jig['group'] and again['tune_type'] == b''
