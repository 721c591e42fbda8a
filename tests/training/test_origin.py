# SPDX-License-Identifier: Apache-2.0
"""A run goes on with the codes it was begun on, or stops with both names."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle, warm_start
from musiclm_jax.streams import TokenStream
from musiclm_jax.training import origin
from tests.training import toys

STREAM = TokenStream(name='codes', rate_hz=5, num_codebooks=2, codebook_size=7)


def on(**fingerprints):
  return types.SimpleNamespace(
    objective=types.SimpleNamespace(trained_on=fingerprints)
  )


def test_what_reads_codes_says_whose():
  assert origin.of(on(acoustic='a')) == {'acoustic': 'a'}
  assert origin.of(types.SimpleNamespace(objective=object())) == {}
  assert origin.of(object()) == {}  # Of the adversarial kind, say.


def test_a_run_is_held_to_the_codes_it_was_begun_on(tmp_path):
  first = {'acoustic': 'a', 'mulan': 'm'}
  origin.require_same(tmp_path / 'run', first, resumes=False)
  origin.require_same(tmp_path / 'run', first, resumes=True)
  with pytest.raises(
    ValueError, match='acoustic codes of a, not of b.*another folder'
  ):
    origin.require_same(
      tmp_path / 'run', first | {'acoustic': 'b'}, resumes=True
    )
  with pytest.raises(ValueError, match='mulan codes of m, not of None'):
    origin.require_same(tmp_path / 'run', {'acoustic': 'a'}, resumes=True)


def test_a_run_that_saved_nothing_may_begin_anew_on_others(tmp_path):
  origin.require_same(tmp_path, {'acoustic': 'a'}, resumes=False)
  origin.require_same(tmp_path, {'acoustic': 'b'}, resumes=False)
  origin.require_same(tmp_path, {'acoustic': 'b'}, resumes=True)


def test_a_model_of_audio_leaves_no_file(tmp_path):
  origin.require_same(tmp_path, {}, resumes=False)
  assert not list(tmp_path.iterdir())


def test_a_warm_start_is_of_the_same_codes_where_it_knows_them(tmp_path):
  common = {'acoustic': 'a', 'semantic': 's'}
  origin.require_same_of_bundle(
    tmp_path, bundle=common, trained_on={'acoustic': 'a', 'mulan': 'm'}
  )
  with pytest.raises(ValueError, match='bundle in .* acoustic codes of a, not'):
    origin.require_same_of_bundle(
      tmp_path, bundle=common, trained_on={'acoustic': 'b'}
    )


def model(**changes):
  """What a whole tokenizer publishes."""
  ones = {'kernel': np.ones((2, 3), np.float32)}
  contents = bundle.BundleContents(
    kind='toy',
    config=toys.Config(),
    weights={
      'params': {'encoder': ones, 'decoder': ones},
      'codebooks': {'embeddings': np.ones(5, np.float32)},
    },
    stream_out=STREAM,
  )
  return dataclasses.replace(contents, **changes)


def check(directory, *, here, there):
  bundle.publish(directory, there)
  found = bundle.load(directory)
  origin.require_codes_kept(
    warm_start.from_bundle(
      jax.tree.map(jnp.asarray, here.weights), bundle=found
    ),
    bundle=found,
    contents=here,
    parts=('decoder',),
  )


def test_codes_are_kept_by_all_that_makes_them_and_by_nothing_less(tmp_path):
  whole = model()
  params = whole.weights['params']
  check(tmp_path, here=whole, there=whole)
  wide = {'kernel': np.ones((2, 5), np.float32)}

  def having(**parts):
    return model(weights={**whole.weights, 'params': parts})

  # Of another decoder nothing is asked.
  check(tmp_path, here=whole, there=having(encoder=params['encoder']))
  for there, lost in (
    (having(decoder=params['decoder']), 'params/encoder/kernel'),
    (having(**(params | {'encoder': wide})), 'params/encoder/kernel'),
    (having(**params, projection=wide), 'params/projection/kernel'),
    (model(weights={'params': params}), 'codebooks/embeddings'),
  ):
    with pytest.raises(ValueError, match=f'not stay.*{lost}.*whole model'):
      check(tmp_path, here=whole, there=there)
  faster = dataclasses.replace(STREAM, rate_hz=11)
  with pytest.raises(ValueError, match='not stay.*11'):
    check(tmp_path, here=model(stream_out=faster), there=whole)
  coarser = toys.Config(dtype='bfloat16')
  with pytest.raises(ValueError, match='not stay.*float32.*in bfloat16.*dtype'):
    check(tmp_path, here=model(config=coarser), there=whole)
  halved = {'kernel': np.ones((2, 3), np.float16)}
  here = having(**(params | {'encoder': halved}))
  with pytest.raises(ValueError, match='not stay.*params/encoder/kernel'):
    check(tmp_path, here=here, there=whole)


def test_another_run_in_the_folder_begins_anew(tmp_path):
  bundle.publish(tmp_path / 'old', model())
  given = {'warm_start': str(tmp_path / 'old'), 'resumes': False, 'config': {}}
  kept = origin.derived_from(tmp_path, parts=('decoder',), **given)
  assert kept == bundle.load(tmp_path / 'old').fingerprint
  assert origin.derived_from(tmp_path, parts=None, **given) is None
  given['resumes'] = True
  assert origin.derived_from(tmp_path, parts=None, **given) is None


def test_codes_that_are_kept_are_made_in_the_types_they_were_begun_in(tmp_path):
  bundle.publish(tmp_path / 'old', model())
  given = {'parts': ('decoder',), 'warm_start': str(tmp_path / 'old')}
  types = {'dtype': 'float32', 'param_dtype': 'float32'}
  begun = types | {'remat': False}
  kept = origin.derived_from(tmp_path, config=begun, resumes=False, **given)
  (tmp_path / 'old' / bundle.MODEL_JSON).unlink()
  given['resumes'] = True
  # What changes no code may change.
  again = origin.derived_from(tmp_path, config=begun | {'remat': True}, **given)
  assert again == kept
  for name in types:
    other = begun | {name: 'bfloat16'}
    with pytest.raises(ValueError, match=f'made with .*{name}.: .bfloat16'):
      origin.derived_from(tmp_path, config=other, **given)
  (tmp_path / origin.DERIVED_FILE).write_text(f'"{kept}"')  # As it once was.
  assert origin.derived_from(tmp_path, config=begun, **given) == kept
