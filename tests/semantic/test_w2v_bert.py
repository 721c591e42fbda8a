# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.checkpoints import config_json
from musiclm_jax.cli import flags, setup
from musiclm_jax.semantic import w2v_bert
from musiclm_jax.semantic.w2v_bert import W2vBert, W2vBertConfig
from tests.semantic import toys

ROWS = toys.batch()
WAVEFORM, MASK = ROWS[batches.WAVEFORM], ROWS[batches.SAMPLE_MASK]


@functools.partial(jax.jit, static_argnames=('config', 'num_mlm_blocks'))
def features(variables, waveform, mask, config=toys.CONFIG, num_mlm_blocks=1):
  return W2vBert(config).apply(
    variables,
    waveform,
    sample_mask=mask,
    num_mlm_blocks=num_mlm_blocks,
    method='features',
  )


@jax.jit
def predict(variables, waveform, sample_mask, span_mask):
  return W2vBert(toys.CONFIG).apply(
    variables, waveform, sample_mask=sample_mask, span_mask=span_mask
  )


def test_padding_and_batch_mates_do_not_change_a_clip():
  variables = toys.variables()
  length = 17 * toys.HOP + 3
  mask = MASK.copy()
  mask[0, length:] = False
  padded = features(variables, WAVEFORM, mask)
  mates = WAVEFORM.copy()
  mates[1] = WAVEFORM[1, ::-1]
  np.testing.assert_array_equal(features(variables, mates, mask)[0], padded[0])
  alone = features(variables, WAVEFORM[:1, :length], MASK[:1, :length])
  assert alone.shape == (1, 18, 12)
  np.testing.assert_allclose(padded[:1, :18], alone, atol=2e-5)
  assert not padded[0, 18:].any()
  whole = features(variables, WAVEFORM, MASK)
  assert not np.allclose(whole[0, :18], alone[0], atol=1e-2)


def test_features_need_the_blocks_that_are_run_and_no_others():
  params = dict(toys.variables()['params'])
  wanted = features({'params': params}, WAVEFORM, MASK)
  params['mlm'] = {'block_0': params['mlm']['block_0']}
  for name in ('quantizer', 'to_code', 'to_logits', 'mask_vector'):
    del params[name]
  # A parameter of the model itself is looked for, if not read.
  params['mask_vector'] = jnp.zeros(12)
  got = features({'params': params}, WAVEFORM, MASK)
  np.testing.assert_array_equal(got, wanted)
  none = features({'params': params}, WAVEFORM, MASK, num_mlm_blocks=0)
  assert not np.allclose(none, wanted, atol=1e-2)


def test_what_is_masked_is_not_seen():
  variables = toys.variables()
  span_mask = np.zeros((2, 31), bool)
  span_mask[:, 10:20] = True
  # Sound whose window lies within the masked frames alone.
  other = WAVEFORM.copy()
  other[:, 12 * toys.HOP : 18 * toys.HOP] = 0.1
  one = predict(variables, WAVEFORM, MASK, span_mask)
  two = predict(variables, other, MASK, span_mask)
  np.testing.assert_allclose(one.logits, two.logits, atol=1e-5)
  np.testing.assert_allclose(one.context, two.context, atol=1e-5)
  # Targets are made of what is hidden.
  assert (one.quantized.codes != two.quantized.codes).any()
  nothing = np.zeros_like(span_mask)
  changed = predict(variables, other, MASK, nothing).logits
  seen = predict(variables, WAVEFORM, MASK, nothing).logits
  assert not np.allclose(seen, changed, atol=1e-2)


def test_scanned_blocks_become_separate_ones_for_inference():
  trained = toys.scanned()
  variables = toys.variables(trained)
  config, params = w2v_bert.to_inference(trained, variables['params'])
  assert config == toys.CONFIG
  assert jax.tree.structure(params) == jax.tree.structure(
    dict(toys.variables()['params'])
  )
  np.testing.assert_allclose(
    features({'params': params}, WAVEFORM, MASK, num_mlm_blocks=2),
    features(variables, WAVEFORM, MASK, config=trained, num_mlm_blocks=2),
    atol=1e-5,
  )


def size_config(size):
  """The config of a size file, as gin reads it."""
  options = flags.Parser(prog='test')
  options.add_gin_flags()
  options = options.parse_args([f'--gin_file=models/w2v_bert/{size}.gin'])
  return setup.configure(options, root=W2vBertConfig, supplied=[])()


def num_parameters(config):
  shape = (1, 10 * config.sample_rate_hz)
  shapes = jax.eval_shape(
    lambda waveform, sample_mask: W2vBert(config).init(
      jax.random.key(0),
      waveform,
      sample_mask=sample_mask,
      span_mask=config.frame_mask(sample_mask),
    ),
    jax.ShapeDtypeStruct(shape, 'float32'),
    jax.ShapeDtypeStruct(shape, bool),
  )
  params = meta.unbox(shapes)['params']
  return sum(leaf.size for leaf in jax.tree.leaves(params)), sum(
    leaf.size
    for stack in ('contrastive', 'mlm')
    for leaf in jax.tree.leaves(params[stack])
  )


def test_the_xl_model_is_the_papers_24_blocks_of_1024():
  config = size_config('xl')
  assert (config.num_contrastive_blocks, config.num_mlm_blocks) == (12, 12)
  assert config.quantizer.codebook_size == config.quantizer.code_dim == 1024
  total, in_blocks = num_parameters(config)
  # Products of a block: 2 x 8 d^2 in the feed-forwards, 4 d^2 in the attention
  # and 3 d^2 in the convolution, and 5 d taps; 6 norms and that of the
  # convolution have two vectors each.
  width = 1024
  block = 23 * width**2 + 5 * width + 2 * 6 * width
  tables = 2 * 2 * 32 * 8  # Two stacks, two directions, buckets and heads.
  assert in_blocks == 24 * block + tables
  assert 0.57e9 < total < 0.63e9


@pytest.mark.parametrize(
  ('size', 'millions'),
  [('base', 100), ('small', 2.36), ('tiny', 0.39)],
)
def test_smaller_sizes_have_about_the_parameters_they_say(size, millions):
  total, _ = num_parameters(size_config(size))
  assert 0.95 * millions < total / 1e6 < 1.05 * millions


def test_the_paper_reads_its_seventh_block_in_the_large_sizes():
  for size in ('xl', 'base'):
    assert size_config(size).num_mlm_blocks > 7


def test_a_config_survives_the_bundle():
  config = toys.scanned()
  assert config_json.from_json(config_json.to_json(config)) == config
  assert hash(config) == hash(toys.scanned())


def test_a_stack_without_blocks_is_an_error():
  with pytest.raises(ValueError, match='of 1 and 0'):
    dataclasses.replace(toys.CONFIG, num_mlm_blocks=0)
