# SPDX-License-Identifier: Apache-2.0
"""A bundle comes back exactly as published, or says in a line why not."""

import dataclasses
import fractions
import json
import os
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.streams import TokenStream

STREAM = TokenStream(
  name='acoustic',
  rate_hz=fractions.Fraction(50, 3),
  num_codebooks=3,
  codebook_size=7,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig:
  strides: tuple[int, ...] = (3, 5)
  dtype: object = jnp.bfloat16


def make_weights(seed=0):
  draw = np.random.default_rng(seed)
  kernel = draw.normal(size=(3, 5)).astype(np.float32)
  return {
    'params': {
      'encoder': {
        'kernel': jnp.asarray(kernel, jnp.bfloat16),
        # Not contiguous, which safetensors alone would store in wrong order.
        'transposed': kernel.T,
      },
      'scale': jnp.float32(2.5),
    },
    'codebooks': {'counts': jnp.arange(7)},
  }


def make_contents(**changes):
  fields = {
    'kind': 'codec',
    'config': ToyConfig(),
    'weights': make_weights(),
    'stream_out': STREAM,
    'trained_on': {'mulan': 'f' * 64},
  }
  return bundle.BundleContents(**(fields | changes))


def edit(directory, **changes):
  path = directory / bundle.MODEL_JSON
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_comes_back_exactly(tmp_path):
  fingerprint = bundle.publish(
    tmp_path, make_contents(), gin_config='NUM_STEPS = 7\n'
  )
  got = bundle.load(tmp_path, kind='codec')
  assert got.config == ToyConfig()
  assert got.fingerprint == fingerprint
  assert got.trained_on == {'mulan': 'f' * 64}
  assert got.stream_out == dataclasses.replace(STREAM, fingerprint=fingerprint)
  assert (tmp_path / bundle.CONFIG_GIN).read_text() == 'NUM_STEPS = 7\n'
  wanted = make_weights()
  encoder = got.weights['params']['encoder']
  assert encoder['kernel'].dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    encoder['kernel'], np.asarray(wanted['params']['encoder']['kernel'])
  )
  np.testing.assert_array_equal(
    encoder['transposed'], wanted['params']['encoder']['transposed']
  )
  assert got.weights['params']['scale'] == 2.5
  np.testing.assert_array_equal(got.weights['codebooks']['counts'], range(7))


def test_publishing_twice_gives_the_same_fingerprint_and_replaces(tmp_path):
  first = bundle.publish(tmp_path, make_contents())
  assert bundle.publish(tmp_path, make_contents()) == first
  other = bundle.publish(tmp_path, make_contents(weights=make_weights(1)))
  assert other != first
  assert bundle.load(tmp_path).fingerprint == other
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'config.gin',
    'model.json',
    'weights.safetensors',
  ]


def test_whoever_may_read_one_file_of_a_bundle_may_read_all(tmp_path):
  bundle.publish(tmp_path, make_contents())
  modes = {path.stat().st_mode for path in tmp_path.iterdir()}
  assert len(modes) == 1


def test_boxes_of_logical_axes_are_taken_off(tmp_path):
  boxed = nn.LogicallyPartitioned(jnp.ones((3, 5)), names=('embed', 'mlp'))
  bundle.publish(tmp_path, make_contents(weights={'params': {'kernel': boxed}}))
  got = bundle.load(tmp_path).weights['params']['kernel']
  np.testing.assert_array_equal(got, np.ones((3, 5)))


def test_reading_the_manifest_imports_no_model_and_reads_no_weights(tmp_path):
  fingerprint = bundle.publish(tmp_path, make_contents())
  (tmp_path / bundle.WEIGHTS).unlink()
  model = bundle.read_model_json(tmp_path)
  assert model['fingerprint'] == fingerprint
  assert model['stream_out']['fingerprint'] == fingerprint


def test_the_module_needs_no_jax():
  code = (
    'import sys\nimport musiclm_jax.checkpoints.bundle\n'
    "heavy = {'jax', 'flax', 'orbax', 'tensorflow', 'gin'} & set(sys.modules)\n"
    'assert not heavy, heavy'
  )
  root = pathlib.Path(bundle.__file__).parents[2]
  subprocess.run([sys.executable, '-c', code], check=True, cwd=root)


def test_another_kind_is_refused(tmp_path):
  bundle.publish(tmp_path, make_contents())
  with pytest.raises(ValueError, match="'semantic' is wanted.*'codec'"):
    bundle.load(tmp_path, kind='semantic')


def test_a_flipped_bit_in_the_weights_names_both_fingerprints(tmp_path):
  published = bundle.publish(tmp_path, make_contents())
  path = tmp_path / bundle.WEIGHTS
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)
  with pytest.raises(ValueError, match='changed or damaged') as caught:
    bundle.load(tmp_path)
  message = str(caught.value)
  found = message.partition('config are ')[2][:64]
  assert published in message
  assert len(found) == 64 and found != published
  assert '\n' not in message


def test_an_edited_config_is_noticed(tmp_path):
  published = bundle.publish(tmp_path, make_contents())
  config = bundle.read_model_json(tmp_path)['config']
  edit(tmp_path, config=config | {'strides': [3, 7]})
  with pytest.raises(ValueError, match=f'published as {published}, but'):
    bundle.load(tmp_path)


@pytest.mark.parametrize('name', [bundle.MODEL_JSON, bundle.WEIGHTS])
def test_a_missing_file_is_named(tmp_path, name):
  bundle.publish(tmp_path, make_contents())
  (tmp_path / name).unlink()
  with pytest.raises(ValueError, match=name):
    bundle.load(tmp_path)


@pytest.mark.parametrize('name', [bundle.MODEL_JSON, bundle.WEIGHTS])
@pytest.mark.parametrize('kept_share', [0, 0.5, 0.95])
def test_a_truncated_file_is_named(tmp_path, name, kept_share):
  bundle.publish(tmp_path, make_contents())
  path = tmp_path / name
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * kept_share)])
  with pytest.raises(ValueError, match=name) as caught:
    bundle.load(tmp_path)
  assert '\n' not in str(caught.value)


def test_another_format_version_is_refused(tmp_path):
  bundle.publish(tmp_path, make_contents())
  edit(tmp_path, format_version=2)
  with pytest.raises(ValueError, match='format version 2.*reads 1'):
    bundle.load(tmp_path)


def test_a_publish_cut_off_before_the_manifest_is_no_bundle(
  tmp_path, monkeypatch
):
  replace = os.replace

  def cut_off(source, target):
    if pathlib.Path(target).name == bundle.MODEL_JSON:
      raise OSError(28, 'No space left on device')
    replace(source, target)

  monkeypatch.setattr(os, 'replace', cut_off)
  with pytest.raises(OSError, match='No space left on device.*Free some'):
    bundle.publish(tmp_path, make_contents())
  monkeypatch.undo()
  with pytest.raises(ValueError, match='is not a bundle'):
    bundle.load(tmp_path)
  assert bundle.publish(tmp_path, make_contents())


def test_a_full_disk_leaves_the_earlier_bundle_whole(tmp_path, monkeypatch):
  published = bundle.publish(tmp_path, make_contents())

  def no_space(*unused_args, **unused_kwargs):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(bundle.safetensors.numpy, 'save_file', no_space)
  with pytest.raises(OSError, match='could not be written'):
    bundle.publish(tmp_path, make_contents(weights=make_weights(1)))
  assert bundle.load(tmp_path).fingerprint == published


def test_a_bundle_in_a_bucket_comes_back_exactly(buckets):
  with pytest.raises(ValueError, match='gs://b/model is not a bundle'):
    bundle.load('gs://b/model')
  for seed in (0, 1):  # The second takes the place of the first.
    published = bundle.publish(
      'gs://b/model', make_contents(weights=make_weights(seed))
    )
  got = bundle.load('gs://b/model', kind='codec')
  assert got.fingerprint == published
  jax.tree.map(np.testing.assert_array_equal, got.weights, make_weights(1))
  files = {path.name for path in (buckets / 'b' / 'model').iterdir()}
  assert files == {bundle.MODEL_JSON, bundle.WEIGHTS, bundle.CONFIG_GIN}


def test_no_weights_are_refused(tmp_path):
  with pytest.raises(ValueError, match='no weights'):
    bundle.publish(tmp_path, make_contents(weights={'params': {}}))


def test_a_model_refuses_codes_of_another_component(tmp_path):
  bundle.publish(tmp_path / 'codec', make_contents())
  codec = bundle.load(tmp_path / 'codec')
  bundle.publish(
    tmp_path / 'stage',
    make_contents(kind='stage', trained_on={'acoustic': codec.fingerprint}),
  )
  stage = bundle.load(tmp_path / 'stage')
  remedy = 'Tokenize again.'
  bundle.require_trained_on(
    stage, name='acoustic', component=codec, remedy=remedy
  )
  bundle.publish(tmp_path / 'codec', make_contents(weights=make_weights(1)))
  other = bundle.load(tmp_path / 'codec')
  with pytest.raises(ValueError, match=r'Tokenize again\.') as caught:
    bundle.require_trained_on(
      stage, name='acoustic', component=other, remedy=remedy
    )
  assert codec.fingerprint in str(caught.value)
  assert other.fingerprint in str(caught.value)


def test_a_copy_in_lower_precision_keeps_the_token_space(tmp_path):
  original = bundle.publish(tmp_path / 'codec', make_contents())
  bundle.publish(
    tmp_path / 'half',
    make_contents(
      weights={'params': {'scale': jnp.float16(2.5)}}, derived_from=original
    ),
  )
  half = bundle.load(tmp_path / 'half')
  assert half.fingerprint != original
  assert half.token_space == half.stream_out.fingerprint == original
