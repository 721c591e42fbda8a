# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from musiclm_jax.checkpoints import bundle, storage
from musiclm_jax.export import folder, importing
from musiclm_jax.export.pytorch.codec import Codec
from tests.inference import toys as inference_toys


@pytest.fixture
def exported(exported_codec, tmp_path):
  """A copy that a test may change."""
  return shutil.copytree(exported_codec[0], tmp_path / 'exported')


def files(directory):
  return [
    (directory / name).read_bytes()
    for name in (bundle.MODEL_JSON, bundle.WEIGHTS)
  ]


def tune(exported, part):
  """Changes the weights of a part of the codec, as a user would."""
  codec = Codec.from_pretrained(exported / 'codec')
  with torch.no_grad():
    for parameter in codec.get_submodule(part).parameters():
      parameter.add_(0.1)
  safetensors.torch.save_file(
    codec.state_dict(), exported / 'codec' / folder.WEIGHTS
  )
  return codec


def test_what_nobody_changed_comes_back_byte_for_byte(
  exported, codec_dir, tmp_path
):
  # Through PyTorch's own state dict, and not only the file.
  codec = Codec.from_pretrained(exported / 'codec')
  path = exported / 'codec' / folder.WEIGHTS
  safetensors.torch.save_file(codec.state_dict(), path)
  published = importing.import_folder(exported, tmp_path / 'back')
  wanted = bundle.load(codec_dir)
  assert published == {'codec': wanted.fingerprint}
  assert files(tmp_path / 'back' / 'codec') == files(codec_dir)


def test_a_component_alone_comes_back_too(exported, codec_dir, tmp_path):
  importing.import_folder(exported / 'codec', tmp_path / 'back')
  assert files(tmp_path / 'back') == files(codec_dir)


@pytest.fixture(params=storage.STORAGES)
def compressed(request, codec_dir, tmp_path):
  """A codec stored in fewer bytes, and its export."""
  found = bundle.load(codec_dir)
  bundle.publish(
    tmp_path / 'small',
    dataclasses.replace(
      found, derived_from=found.fingerprint, storage=request.param
    ),
  )
  small = bundle.load(tmp_path / 'small')
  folder.write_component(small, tmp_path / 'torch')
  return small, tmp_path / 'torch'


def test_what_is_compressed_comes_back_byte_for_byte(compressed, tmp_path):
  small, exported = compressed
  weights = safetensors.numpy.load_file(small.directory / bundle.WEIGHTS)
  assert small.storage in {leaf.dtype.name for leaf in weights.values()}
  importing.import_folder(exported, tmp_path / 'back')
  assert files(tmp_path / 'back') == files(small.directory)


def test_what_was_tuned_is_not_compressed_anew(compressed, tmp_path):
  small, exported = compressed
  path = exported / folder.WEIGHTS
  state = safetensors.torch.load_file(path)
  state['decoder.first.bias'] += 1e-4
  safetensors.torch.save_file(state, path)
  importing.import_folder(exported, tmp_path / 'back')
  found = bundle.load(tmp_path / 'back')
  assert found.storage is None
  assert found.token_space == small.token_space != found.fingerprint
  np.testing.assert_array_equal(
    found.weights['params']['decoder']['first']['bias'],
    state['decoder.first.bias'],
  )


def test_another_encoder_has_another_token_space(exported, codec_dir, tmp_path):
  codec = tune(exported, 'encoder.last')
  importing.import_folder(exported, tmp_path / 'back')
  found, before = (
    bundle.load(tmp_path / 'back' / 'codec'),
    bundle.load(codec_dir),
  )
  assert found.fingerprint != before.fingerprint
  assert found.derived_from is None
  assert found.token_space == found.stream_out.fingerprint == found.fingerprint
  np.testing.assert_array_equal(
    found.weights['params']['encoder']['last']['bias'],
    codec.encoder.last.bias.detach(),
  )
  origin = (tmp_path / 'back' / 'codec' / bundle.CONFIG_GIN).read_text()
  assert f'exported from {before.fingerprint}' in origin


def test_a_decoder_that_was_tuned_reads_the_same_codes(
  exported, codec_dir, tmp_path
):
  tune(exported, 'decoder')
  importing.import_folder(exported, tmp_path / 'back')
  found, before = (
    bundle.load(tmp_path / 'back' / 'codec'),
    bundle.load(codec_dir),
  )
  assert found.fingerprint != before.fingerprint
  assert found.token_space == found.stream_out.fingerprint == before.fingerprint


def whole(directory):
  """An exported folder of six bundles; the fingerprints that they had."""
  inference_toys.publish(directory / 'bundles')
  model = folder.read(directory / 'bundles')
  with folder.staged(directory / 'exported') as staging:
    folder.write(staging, model)
  return {place: found.fingerprint for place, found in model.bundles.items()}


@pytest.mark.slow
def test_a_whole_model_comes_back_assembled_or_not_at_all(tmp_path):
  fingerprints = whole(tmp_path)
  exported = tmp_path / 'exported'
  published = importing.import_folder(exported, tmp_path / 'back')
  assert published == fingerprints
  back = folder.read(tmp_path / 'back').bundles
  assert back.keys() == fingerprints.keys()
  path = exported / 'codec' / folder.WEIGHTS
  state = safetensors.torch.load_file(path)
  state['quantizer.embeddings'] += 0.1
  safetensors.torch.save_file(state, path)
  with pytest.raises(ValueError, match='trained on codes of another model'):
    importing.import_folder(exported, tmp_path / 'again')
  assert not (tmp_path / 'again').exists()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda path: (path / 'config.json').unlink(), 'config.json is missing'),
    (lambda path: (path / 'linen.json').unlink(), 'linen.json is missing'),
    (lambda path: (path / 'config.json').write_text('{'), 'is not JSON'),
    (
      lambda path: (path / 'config.json').write_text(
        json.dumps({'format_version': 2})
      ),
      'has format version 2; this program reads 1',
    ),
    (
      lambda path: (path / 'config.json').write_text('{"format_version": 1}'),
      'config.json lacks config, derived_from, fingerprint, kind, stream_out',
    ),
    (
      lambda path: (path / 'config.json').write_text('[]'),
      'config.json is not an object',
    ),
    (
      lambda path: (path / 'model.safetensors').write_bytes(b'12345678'),
      'model.safetensors cannot be read',
    ),
    (
      lambda path: safetensors.torch.save_file(
        {'bias': torch.ones(3)}, path / 'model.safetensors'
      ),
      'has bias, which it does not know',
    ),
  ],
)
def test_what_is_damaged_is_named_and_nothing_written(
  exported, tmp_path, change, message
):
  change(exported / 'codec')
  with pytest.raises(ValueError, match=message) as raised:
    importing.import_folder(exported, tmp_path / 'back')
  assert '\n' not in str(raised.value)
  assert not (tmp_path / 'back').exists()


@pytest.mark.parametrize('place', ['../codec', '/tmp/codec', 'codec/..', '.'])
def test_nothing_is_read_or_written_outside_the_folders(tmp_path, place):
  exported = tmp_path / 'exported'
  exported.mkdir()
  config = {'format_version': 1, 'kind': 'component', 'components': {place: {}}}
  (exported / folder.CONFIG).write_text(json.dumps(config))
  with pytest.raises(ValueError, match=f'components at {place}; they lie at'):
    importing.import_folder(exported, tmp_path / 'back')
  assert list(tmp_path.iterdir()) == [exported]


def test_a_config_of_the_format_alone_names_what_it_lacks(tmp_path):
  (tmp_path / folder.CONFIG).write_text('{"format_version": 1}')
  with pytest.raises(ValueError, match='config.json lacks config, derived'):
    importing.import_folder(tmp_path, tmp_path / 'back')
