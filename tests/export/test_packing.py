# SPDX-License-Identifier: Apache-2.0
"""A folder to hand on: it makes the same music, and fits."""

import shutil

import jax
import numpy as np
import pytest
import torch

from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec.base import load_codec
from musiclm_jax.export import clips, exporting, packing
from musiclm_jax.export.pytorch import MusicLM as TorchMusicLM
from musiclm_jax.inference import (
  assembly,
  compression,
  demo,
  golden,
  request,
)
from musiclm_jax.inference.music_lm import MusicLM
from tests.export import whole
from tests.inference import toys

PARTS = ('codec', 'mulan', *(f'stages/{name}' for name in assembly.STAGES))


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('whole')
  whole.publish(directory)
  (directory / 'codec' / 'config.gin').write_text("CORPUS = '/home/me/tunes'\n")
  return directory


def test_what_is_too_large_is_not_written(model_dir, tmp_path):
  with pytest.raises(ValueError, match='more than 1,000: codec [0-9,]+, ') as e:
    packing.pack(model_dir, tmp_path / 'out', max_bytes=1000)
  assert 'leave out what continuation needs' in str(e.value)
  assert not list(tmp_path.iterdir())


def test_a_codec_that_cannot_be_taken_apart_is_named(
  model_dir, tmp_path, monkeypatch
):
  monkeypatch.delattr(
    'musiclm_jax.codec.soundstream.SoundStreamConfig.decoding_weights'
  )
  with pytest.raises(ValueError, match='SoundStreamConfig, which does not say'):
    packing.pack(
      model_dir, tmp_path / 'out', max_bytes=10**9, continuation=False
    )
  assert not list(tmp_path.iterdir())


def test_the_card_of_the_demo_is_not_that_of_a_folder_here(
  model_dir, tmp_path, monkeypatch
):
  shutil.copytree(model_dir, tmp_path / 'musiclm_jax' / 'demo')
  monkeypatch.setattr(
    demo.importlib.resources, 'files', lambda name: tmp_path / name
  )
  (tmp_path / 'demo').mkdir()
  monkeypatch.chdir(tmp_path)
  # What takes time.
  monkeypatch.setattr(packing.golden, 'make', lambda *_, **__: None)
  monkeypatch.setattr(packing.golden, 'write', lambda *_: None)
  cards = []

  def card(bundles, *, model, **_):
    cards.append(model)
    return ''

  monkeypatch.setattr(packing.model_card, 'card', card)
  packing.pack('demo', tmp_path / 'out', max_bytes=10**6)
  assert cards == [tmp_path / 'musiclm_jax' / 'demo']


def test_codebooks_of_a_compressed_copy_take_half_as_much():
  weights = {
    'params': {'kernel': np.ones((2, 3), np.float32)},
    'codebooks': {
      'embeddings': np.full((3, 5), 0.1, np.float32),
      'counts': np.full(3, 1e6, np.float32),
      'initialised': np.array(True),
    },
  }
  assert packing._smaller(weights, None) is weights
  small = packing._smaller(weights, 'int8')
  types = jax.tree.map(lambda leaf: leaf.dtype.name, small)
  assert types == {
    'params': {'kernel': 'float32'},  # Stored as int8 when it is published.
    # Beyond float16 is what counts.
    'codebooks': {
      'embeddings': 'float16',
      'counts': 'float32',
      'initialised': 'bool',
    },
  }


@pytest.fixture(scope='module')
def small_dir(model_dir, tmp_path_factory):
  """Compressed, as what is handed on mostly is, and wanting guidance."""
  guided = tmp_path_factory.mktemp('guided')
  toys.restate(model_dir, guided, sampling=toys.GUIDED)
  output = tmp_path_factory.mktemp('compressed')
  compression.compress(guided, output, dtype='int8')
  return output


@pytest.fixture(scope='module')
def packed(small_dir, tmp_path_factory):
  """Without what continuation needs: the folder, and its sizes."""
  output = tmp_path_factory.mktemp('packed') / 'out'
  sizes = packing.pack(
    small_dir, output, max_bytes=10**6, continuation=False, license='cc0-1.0'
  )
  return output, sizes


@pytest.mark.slow
def test_sizes_are_those_of_all_files(packed):
  output, sizes = packed
  assert tuple(sizes) == (*PARTS, 'others')
  files = [path for path in output.rglob('*') if path.is_file()]
  assert sum(sizes.values()) == sum(path.stat().st_size for path in files)
  weights = output / 'codec' / bundle.WEIGHTS
  assert 0 < sizes['codec'] - weights.stat().st_size < 10_000


@pytest.mark.slow
def test_it_makes_the_same_music_and_knows_that_it_does(small_dir, packed):
  output, _ = packed
  stored = [bundle.load(output / part).storage for part in PARTS]
  assert stored == ['float16', 'float16', 'int8', 'int8', 'int8']
  small = MusicLM.load(output)
  assert small.sampling == toys.GUIDED
  order = request.Request(prompts=whole.PROMPTS, seconds=2, seed=3)
  wanted, music = MusicLM.load(small_dir).compose(order), small.compose(order)
  np.testing.assert_array_equal(music.semantic, wanted.semantic)
  np.testing.assert_array_equal(music.acoustic, wanted.acoustic)
  # Its codebooks are float16, and those of the whole one are not.
  scale = np.abs(wanted.waveform).max()
  error = np.abs(music.waveform - wanted.waveform).max()
  assert 0 < error < 2e-3 * scale
  made = golden.read(output / golden.FILE)
  assert made.prompt == packing.PROMPT
  assert 'codes equal' in golden.require_same(small, made)


@pytest.mark.slow
def test_what_it_lacks_it_says_and_what_it_has_fits_the_stages(
  model_dir, packed
):
  output, _ = packed
  assert not (output / 'semantic').exists()
  codec = load_codec(output / 'codec')
  assert codec.stream == load_codec(model_dir / 'codec').stream
  paths = bundle.load(output / 'codec').weights['params']
  assert set(paths) == {'decoder'}
  with pytest.raises(ValueError, match='has no encoder.*that it was made of'):
    codec.encode(np.zeros((1, 60), np.float32), sample_rate_hz=60)
  with pytest.raises(ValueError, match='no semantic tokenizer'):
    MusicLM.load(output).generate(
      continue_from=np.ones(60, np.float32), sample_rate_hz=60, seconds=3
    )


@pytest.mark.slow
def test_it_is_exported_to_pytorch_as_far_as_it_goes(packed, tmp_path):
  output, _ = packed
  sheet = exporting.export(output, tmp_path / 'out', clips=clips.synthetic())
  names = {(check.component, check.name) for check in sheet.checks}
  assert ('codec', 'waveform of a whole clip') in names
  assert ('codec', 'codes') not in names
  exported = TorchMusicLM.from_pretrained(tmp_path / 'out')
  wanted = MusicLM.load(output).generate(whole.PROMPTS, seconds=2, seed=3)
  made = exported.generate(whole.PROMPTS, seconds=2, seed=3)
  np.testing.assert_allclose(made, wanted, atol=1e-4)
  clip = torch.ones(60)
  with pytest.raises(ValueError, match='no encoder'):
    exported.codec.encode(clip[None])
  with pytest.raises(ValueError, match='no semantic tokenizer'):
    exported.generate(continue_from=clip, sample_rate_hz=60, seconds=3)


@pytest.mark.slow
def test_its_card_is_for_jax_and_no_local_path_goes_with_it(packed):
  output, sizes = packed
  card = (output / demo.CARD).read_text()
  assert card.startswith('---\nlicense: "cc0-1.0"\nlibrary_name: musiclm_jax\n')
  assert 'MusicLM.load' in card and 'Parity' not in card
  assert f' M, {sizes["codec"] / 1e6:.2f} MB | acoustic: 5 level(s)' in card
  assert (output / 'codec' / 'config.gin').read_text() == "CORPUS = 'tunes'\n"
