# SPDX-License-Identifier: Apache-2.0
import jax
import ml_dtypes
import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.export import naming
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.mulan import resnet
from musiclm_jax.stages import lm
from tests.export import toys
from tests.inference import toys as inference_toys
from tests.mulan import toys as mulan_toys
from tests.semantic import toy_tokenizer


def conditioner(body):
  config = mulan_toys.config(body=body)
  shapes = jax.eval_shape(config.init, jax.random.key(0))
  codebooks = toys.codec_weights(toys.codec_config())['codebooks']
  return {
    'towers': toys.draw(shapes),
    'quantizer': {'codebooks': codebooks['quantizer']},
  }


def stage():
  spec, *_ = inference_toys.specs(
    mulan=inference_toys.MULAN,
    semantic=inference_toys.SEMANTIC,
    acoustic=inference_toys.CODEC.stream,
  )
  config = lm.StageLMConfig(
    spec=spec,
    transformer=TransformerConfig(
      num_layers=2, num_heads=2, embed_dim=14, mlp_dim=13
    ),
  )
  tokens = np.zeros((1, config.layout.length), np.int32)
  return toys.draw(
    jax.eval_shape(lm.StageLM(config).init, jax.random.key(0), tokens)
  )


BUNDLES = {
  'codec': lambda: toys.codec_weights(toys.codec_config()),
  'codec, factorized and without norms': lambda: toys.codec_weights(
    toys.codec_config(factorized_dim=2, weight_norm=False)
  ),
  'semantic': toy_tokenizer.weights,
  'stage': stage,
  'conditioner': lambda: conditioner(None),
  'conditioner, with a ResNet': lambda: conditioner(
    resnet.ResNetConfig(channels=4, blocks=(1, 2), num_groups=2)
  ),
}


@pytest.mark.parametrize(
  'name',
  [
    # Its shapes alone take seconds to find.
    pytest.param(name, marks=pytest.mark.slow) if 'ResNet' in name else name
    for name in BUNDLES
  ],
)
def test_every_kind_of_bundle_goes_there_and_back_bit_for_bit(name):
  kind, weights = name.partition(',')[0], BUNDLES[name]()
  weights = jax.tree.map(np.asarray, weights)
  state = naming.to_state_dict(weights, kind=kind)
  back = fingerprints.flatten(
    naming.from_state_dict(state, kind=kind, described=naming.describe(weights))
  )
  leaves = fingerprints.flatten(weights)
  assert len(leaves) > 10
  assert list(back) == list(leaves)
  for path, leaf in leaves.items():
    assert back[path].dtype == leaf.dtype
    np.testing.assert_array_equal(back[path], leaf, path)
  # It is not the identity: nothing is called as it is in Linen.
  assert not [path for path in leaves if path in state]


def test_half_precision_stays_as_it_is():
  weights = {'params': {'logit_table': np.ones((3, 2), ml_dtypes.bfloat16)}}
  state = naming.to_state_dict(weights, kind='stage')
  back = naming.from_state_dict(
    state, kind='stage', described=naming.describe(weights)
  )
  assert back['params']['logit_table'].dtype == ml_dtypes.bfloat16


def test_kernels_lie_as_pytorch_has_them():
  kernel = np.arange(2 * 3 * 5).reshape(2, 3, 5)  # [taps, in, out]
  linear = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)  # [.., inputs]
  out = np.arange(2 * 3 * 5).reshape(2, 3, 5)  # [features, heads, kv]
  state = naming.to_state_dict(
    {
      'params': {
        'decoder': {
          'block_0': {
            'up': {'weight_v': kernel, 'weight_g': np.ones(5)},
            'dilated_9': {'weight_v': kernel, 'weight_g': np.ones(5)},
            'attention': {
              'query_key_value': {'kernel': linear},
              'out': {'kernel': out},
            },
          }
        }
      }
    },
    kind='codec',
  )
  block = 'decoder.blocks.0'
  assert state[f'{block}.dilated.9.weight_v'][4, 2, 1] == kernel[1, 2, 4]
  assert state[f'{block}.up.weight_v'][2, 4, 1] == kernel[1, 2, 4]
  assert state[f'{block}.dilated.9.weight_g'].shape == (5, 1, 1)
  assert state[f'{block}.up.weight_g'].shape == (1, 5, 1)
  query = state[f'{block}.attention.query_key_value.weight']
  np.testing.assert_array_equal(query, linear.reshape(30, 7))
  np.testing.assert_array_equal(
    state[f'{block}.attention.out.weight'], out.reshape(2, 15)
  )


def small():
  weights = {'params': {'inputs': {'table': np.ones((3, 2), np.float32)}}}
  return naming.to_state_dict(weights, kind='stage'), naming.describe(weights)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda state: state.clear(), 'lacks inputs.weight and has nothing'),
    (
      lambda state: state.update(extra=np.ones(1)),
      'lacks nothing and has extra',
    ),
    (
      lambda state: state.update({'inputs.weight': np.ones((3, 2))}),
      r'inputs.weight is float64 \[3, 2\], but float32 \[3, 2\] is wanted',
    ),
    (
      lambda state: state.update(
        {'inputs.weight': np.ones((2, 3), np.float32)}
      ),
      r'is float32 \[2, 3\], but float32 \[3, 2\]',
    ),
  ],
)
def test_a_state_dict_of_another_model_is_named(change, message):
  state, described = small()
  change(state)
  with pytest.raises(ValueError, match=message):
    naming.from_state_dict(state, kind='stage', described=described)


def test_what_has_no_counterpart_is_named(tmp_path):
  toy_tokenizer.publish_model(tmp_path)
  found = bundle.load(tmp_path)
  with pytest.raises(ValueError, match="kind 'w2v_bert' has no counterpart"):
    naming.to_state_dict(found.weights, kind=found.kind)


def test_two_weights_of_one_name_are_refused():
  weights = {'a': {'kernel': np.ones((2, 2)), 'scale': np.ones(2)}}
  with pytest.raises(ValueError, match="are called 'a.weight'"):
    naming.to_state_dict(weights, kind='stage')
