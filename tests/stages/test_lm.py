# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from flax.core import meta

from musiclm_jax.checkpoints import config_json, storage
from musiclm_jax.cli import flags, setup
from musiclm_jax.stages import coarse, fine, lm, semantic
from musiclm_jax.stages.layout import StageLayout
from musiclm_jax.stages.spec import Take
from musiclm_jax.streams import TokenStream
from tests.stages import toys

MULAN = TokenStream(
  name='mulan', rate_hz=None, num_codebooks=12, codebook_size=1024
)
SEMANTIC = TokenStream(
  name='semantic', rate_hz=25, num_codebooks=1, codebook_size=1024
)
ACOUSTIC = TokenStream(
  name='acoustic', rate_hz=50, num_codebooks=12, codebook_size=1024
)
STAGES = {
  'semantic': semantic.semantic(conditions=(MULAN,), semantic=SEMANTIC),
  'coarse': coarse.coarse(
    conditions=(MULAN,), semantic=SEMANTIC, acoustic=ACOUSTIC
  ),
  'fine': fine.fine(acoustic=ACOUSTIC),
}

CONFIG = toys.config()
LAYOUT = CONFIG.layout
PARAMS = toys.params(CONFIG)
TOKENS = LAYOUT.pack(toys.codes(3))


def apply(tokens, method='__call__'):
  return toys.forward(CONFIG, PARAMS, tokens, method=method)


def size_config(size, stage):
  """The config of a size file, as gin reads it."""
  options = flags.Parser(prog='test')
  options.add_gin_flags()
  options = options.parse_args([f'--gin_file=models/stage_lm/{size}.gin'])
  return setup.configure(options, root=lm.StageLMConfig, supplied=['spec'])(
    spec=STAGES[stage]
  )


def counts(config):
  """Parameters by part: body, tables, and what the paper does not count."""
  tokens = jax.ShapeDtypeStruct((1, config.layout.length), jnp.int32)
  shapes = jax.eval_shape(lm.StageLM(config).init, jax.random.key(0), tokens)
  parts = dict.fromkeys(('body', 'tables', 'norms', 'bias'), 0)
  for path, leaf in jax.tree_util.tree_leaves_with_path(
    meta.unbox(shapes)['params']
  ):
    name = jax.tree_util.keystr(path)
    if 'norm' in name:
      part = 'norms'
    elif 'relative_bias' in name:
      part = 'bias'
    else:
      part = 'body' if 'transformer' in name else 'tables'
    parts[part] += leaf.size
  special = config.layout.num_special_ids * config.transformer.embed_dim
  return parts | {'tables': parts['tables'] - special, 'special': special}


@pytest.mark.parametrize(
  'stage, vocabulary, total',
  [
    ('semantic', 13 * 1024, 429_916_160),
    ('coarse', 17 * 1024, 438_304_768),
    ('fine', 12 * 1024, 427_819_008),
  ],
)
def test_paper_size_has_the_parameters_of_the_paper(stage, vocabulary, total):
  config = size_config('paper', stage)
  found = counts(config)
  assert config.layout.vocabulary_size == vocabulary
  assert found['body'] == 24 * (4 * 1024**2 + 3 * 1024 * 4096)
  assert found['tables'] == 2 * vocabulary * 1024
  assert found['body'] + found['tables'] == total
  # What comes on top, each apart.
  assert found['norms'] == (2 * 24 + 1) * 1024
  assert found['bias'] == 32 * 16
  assert found['special'] == (3 + len(config.spec.takes)) * 1024


@pytest.mark.parametrize(
  'size, millions',
  [('tiny', 4.2), ('mini', 11.6), ('small', 24.4), ('base', 105.4)],
)
def test_smaller_sizes_have_about_the_parameters_they_state(size, millions):
  found = counts(size_config(size, 'semantic'))
  assert round((found['body'] + found['tables']) / 1e6, 1) == millions


def test_config_survives_json():
  config = size_config('paper', 'coarse')
  assert config_json.from_json(config_json.to_json(config)) == config
  assert hash(config) == hash(dataclasses.replace(config))


def test_logits_of_a_code_do_not_see_it_or_what_follows():
  logits = apply(TOKENS)
  assert logits.shape == (3, 12, 2, 11)
  position = LAYOUT.output.start + 2 * 5 + 1  # Frame 5, its second level.
  other = TOKENS.copy()
  other[:, position:-1] = LAYOUT.legal_start[position:-1]
  flat = logits.reshape(3, -1, 11)
  changed = apply(other).reshape(3, -1, 11)
  np.testing.assert_allclose(flat[:, :12], changed[:, :12], atol=1e-6)
  assert not np.allclose(flat[:, 12:], changed[:, 12:], atol=1e-3)


def test_every_input_is_heard():
  logits = apply(TOKENS)
  for name in ('clip', 'slow'):
    other = toys.codes(3)
    other[name] = (other[name] + 1) % 5
    changed = apply(LAYOUT.pack(other))
    assert not np.allclose(logits, changed, atol=1e-3), name


def test_legal_logits_are_a_slice_of_those_over_the_vocabulary():
  legal = apply(TOKENS)
  whole = apply(TOKENS, method='vocabulary_logits')
  assert whole.shape == (3, 12, 2, LAYOUT.vocabulary_size)
  for level, first in enumerate(LAYOUT.output.first_ids):
    np.testing.assert_allclose(
      legal[:, :, level], whole[:, :, level, first : first + 11], atol=1e-5
    )


def test_scanned_parameters_come_apart_for_a_decoder():
  config = toys.config(scan_layers=True, remat=True)
  params = toys.params(config)
  wanted = toys.forward(config, params, TOKENS)
  config, params = lm.to_decode(config, params)
  got = toys.forward(config, params, TOKENS)
  np.testing.assert_allclose(got, wanted, atol=1e-5)
  half, params = lm.to_decode(config, params, dtype='bfloat16')
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {
    jnp.dtype('bfloat16')
  }
  logits = toys.forward(half, params, TOKENS)
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, wanted, atol=0.2)


def test_int8_is_that_of_kernels_alone():
  small, params = lm.to_decode(CONFIG, PARAMS, dtype='int8')
  shapes = jax.eval_shape(lm.StageLM(small).init, jax.random.key(0), TOKENS)
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(
    jnp.shape, meta.unbox(shapes)['params']
  )
  found, wide = traverse_util.flatten_dict(params), {}
  for path, leaf in traverse_util.flatten_dict(PARAMS).items():
    wide[path] = leaf
    if path[-1] == 'kernel':
      values, scale = storage.quantize(np.asarray(leaf))
      wide[path] = values * scale
      stored = found.pop(path), found.pop((*path[:-1], 'kernel_scale'))
      assert (stored[0].dtype, stored[1].dtype) == (jnp.int8, jnp.float32)
      assert np.sum(np.square(stored[0], dtype=int)) == np.sum(
        np.square(values, dtype=int)
      )
    else:
      np.testing.assert_array_equal(found.pop(path), leaf)
  assert not found
  np.testing.assert_allclose(
    toys.forward(small, params, TOKENS),
    toys.forward(CONFIG, traverse_util.unflatten_dict(wide), TOKENS),
    atol=1e-5,
  )


def test_what_cannot_be_decoded_is_refused():
  with pytest.raises(ValueError, match="decoded in 'int4'; choose a floating"):
    toys.config().to_decode(dtype='int4')
  broken = jax.tree.map(lambda leaf: leaf * np.nan, PARAMS)
  with pytest.raises(ValueError, match='/kernel has .* NaN or infinite'):
    lm.to_decode(CONFIG, broken, dtype='int8')


def test_a_decoder_needs_no_kernel():
  """What was trained on a TPU is decoded on any machine."""
  config = toys.config(attention='splash', position='rotary', head_dim=8)
  assert config.to_decode().transformer == dataclasses.replace(
    config.transformer, attention='einsum'
  )


def test_codes_of_one_time_meet_where_the_row_is_longer_than_the_bias():
  """Swapping two slow codes is seen from far away by their times alone."""
  swapped = TOKENS.copy()
  slow = LAYOUT.segments[1]
  here, next_to_it = slow.start, slow.start + 1
  swapped[:, [here, next_to_it]] = TOKENS[:, [next_to_it, here]]
  assert (swapped != TOKENS).any()

  def change(**sizes):
    # One layer, whose far bucket holds all of the input: a sum over a set.
    config = toys.config(num_layers=1, num_buckets=2, max_distance=2, **sizes)
    params = toys.params(config)
    logits = [toys.forward(config, params, t) for t in (TOKENS, swapped)]
    return np.abs(logits[0] - logits[1])[:, 3:].max()

  assert change() < 1e-5
  assert change(position='aligned') > 1e-3


@pytest.mark.parametrize(
  ('share', 'ticks'), [(None, [None, 2, 1]), ('1/2', [None, None, 1])]
)
def test_codes_have_a_time_where_they_have_a_rate_and_their_repeats(
  share, ticks
):
  """A tick is a frame of the fastest stream that has a time."""
  slow = Take(stream=toys.SLOW, distinct_share=share)
  inputs = toys.SPEC.inputs[0], slow
  spec = dataclasses.replace(toys.SPEC, inputs=inputs)
  spans = lm._spans(StageLayout(spec))
  assert [span.frame_ticks for span in spans] == ticks
