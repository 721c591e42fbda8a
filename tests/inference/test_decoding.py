# SPDX-License-Identifier: Apache-2.0
import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.core import meta

from musiclm_jax.checkpoints import bundle as bundles
from musiclm_jax.checkpoints import fingerprint
from musiclm_jax.inference import decoding, sampling
from musiclm_jax.inference.decoding import DecodingConfig, StageDecoder
from musiclm_jax.stages import lm
from musiclm_jax.stages.layout import NO_CODE
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.training.partitioning import Partitioner
from tests.stages import toys

CONFIG = toys.config(position='aligned', num_buckets=6, max_distance=11)
LAYOUT = CONFIG.layout
# Sharper than fresh logits, so that samples differ from row to row.
PARAMS = toys.params(CONFIG)
PARAMS['logit_table'] = 4 * PARAMS['logit_table']
# Fresh ones are the same in both directions.
PARAMS['transformer']['time_bias']['table'] = jax.random.normal(
  jax.random.key(1), (2, 12)
)

GREEDY = DecodingConfig(sampler=sampling.greedy, segment_length=8)
SAMPLED = DecodingConfig(segment_length=8)
COMPILED = '/jax/core/compile/backend_compile_duration'


def decoder(config=GREEDY):
  return StageDecoder(config=CONFIG, params=PARAMS, decoding=config)


def prompt(num_rows=5, *, seed=0, **options):
  return LAYOUT.pack_prompt(toys.codes(num_rows, seed=seed), **options)


def keys(num_rows=5, *, first=0):
  return decoding.request_keys(np.arange(first, first + num_rows))


def forward(tokens):
  return toys.forward(CONFIG, PARAMS, tokens)


def test_greedy_codes_are_the_likeliest_of_the_whole_sequence():
  tokens = decoder().decode(prompt(), keys=keys())
  codes = LAYOUT.unpack(tokens)
  assert codes.min() >= 0
  np.testing.assert_array_equal(codes, jnp.argmax(forward(tokens), axis=-1))


@pytest.mark.slow
def test_traced_within_another_program_the_codes_are_the_same():
  decode = jax.jit(decoding.decode_rows, static_argnames=('config', 'sampler'))
  rows = decode(
    PARAMS, prompt(), keys=keys(), config=CONFIG, sampler=SAMPLED.sampler
  )
  wanted = decoder(SAMPLED).decode(prompt(), keys=keys())
  np.testing.assert_array_equal(rows, wanted)


def test_logits_of_every_step_are_those_of_the_whole_sequence():
  tokens = LAYOUT.pack(toys.codes(3))
  wanted = np.asarray(forward(tokens)).reshape(3, -1, 11)
  caches = toys.forward(
    CONFIG, PARAMS, tokens[:, : LAYOUT.output.start - 1], method='prefill'
  )
  caches = decoding._grow(caches, capacity=LAYOUT.length)
  step = jax.jit(
    lambda column, caches, position: lm.StageLM(CONFIG).apply(
      {'params': PARAMS},
      column,
      caches=caches,
      valid_mask=LAYOUT.valid_mask(jnp.asarray(tokens)),
      position=position,
      method=lm.StageLM.step,
    )
  )
  for index in range(wanted.shape[1]):
    position = LAYOUT.output.start - 1 + index
    made = step(tokens[:, position], caches, jnp.asarray(position))
    caches = made.caches
    np.testing.assert_allclose(made.logits, wanted[:, index], atol=1e-5)


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(seed=st.integers(0, 2**31), bias=st.integers(0, 43))
def test_only_legal_codes_are_made(seed, bias):
  """Even by a model that wants nothing but one id of any stream."""
  params = dict(PARAMS)
  params['logit_table'] = PARAMS['logit_table'].at[bias].mul(100.0)
  made = dataclasses.replace(decoder(SAMPLED), params=params).decode(
    prompt(), keys=keys(first=seed)
  )
  output = slice(LAYOUT.output.start, LAYOUT.output.stop)
  assert np.all(made[:, output] >= LAYOUT.legal_start[None, output])
  assert np.all(made[:, output] < LAYOUT.legal_stop[None, output])
  np.testing.assert_array_equal(
    made[:, : LAYOUT.output.start], prompt()[:, : LAYOUT.output.start]
  )


def test_row_does_not_depend_on_its_mates_its_slot_or_the_padding():
  made = decoder(SAMPLED).decode(prompt(), keys=keys())
  assert len({row.tobytes() for row in LAYOUT.unpack(made)}) == 5
  order = np.asarray([3, 0, 4, 1, 2])
  shuffled = decoder(SAMPLED).decode(prompt()[order], keys=keys()[order])
  np.testing.assert_array_equal(shuffled, made[order])
  mates, mates_keys = prompt(seed=7), keys(first=50)
  mates[3] = prompt()[1]
  made_again = decoder(SAMPLED).decode(
    mates, keys=mates_keys.at[3].set(keys()[1])
  )
  np.testing.assert_array_equal(made_again[3], made[1])
  padded = np.full_like(mates, LAYOUT.pad_id)
  padded[2] = prompt()[1]
  made_again = decoder(SAMPLED).decode(
    padded, keys=mates_keys.at[2].set(keys()[1])
  )
  np.testing.assert_array_equal(made_again[2], made[1])


def test_logits_are_bit_identical_whatever_the_mates_and_the_slot():
  config = toys.config(embed_dim=64, num_heads=4, mlp_dim=171)
  params = toys.params(config)

  @jax.jit
  def logits(tokens):
    caches = lm.StageLM(config).apply(
      {'params': params}, tokens[:, :20], method=lm.StageLM.prefill
    )
    return (
      lm.StageLM(config)
      .apply(
        {'params': params},
        tokens[:, 20],
        caches=decoding._grow(caches, capacity=21),
        valid_mask=LAYOUT.valid_mask(tokens[:, :21]),
        position=jnp.asarray(20),
        method=lm.StageLM.step,
      )
      .logits
    )

  for num_rows in (2, 4, 8):
    tokens = LAYOUT.pack(toys.codes(num_rows))
    mates = LAYOUT.pack(toys.codes(num_rows, seed=1))
    wanted = logits(tokens)[0]
    for slot in range(num_rows):
      mates[slot] = tokens[0]
      np.testing.assert_array_equal(logits(mates)[slot], wanted)


def test_codes_follow_the_seed():
  made = [
    decoder(SAMPLED).decode(prompt(), keys=keys(first=first))
    for first in (0, 0, 10)
  ]
  np.testing.assert_array_equal(made[0], made[1])
  assert not np.array_equal(made[0], made[2])


def test_given_codes_are_kept_and_continued():
  given = np.zeros((5, 12, 1), bool)
  given[:, :4] = True
  given[:, 9] = True
  rows = prompt(given=given)
  made = decoder().decode(rows, keys=keys())
  codes, wanted = LAYOUT.unpack(made), toys.codes(5)['fast'][:, :, :2]
  np.testing.assert_array_equal(codes[:, :4], wanted[:, :4])
  np.testing.assert_array_equal(codes[:, 9], wanted[:, 9])
  free = ~np.broadcast_to(given, codes.shape)
  likeliest = np.asarray(jnp.argmax(forward(made), axis=-1))
  np.testing.assert_array_equal(codes[free], likeliest[free])
  prefilled = decoder().decode(rows, keys=keys(), num_prefilled_frames=4)
  np.testing.assert_array_equal(prefilled, made)


def test_fewer_frames_are_the_beginning_of_more():
  whole = LAYOUT.unpack(decoder(SAMPLED).decode(prompt(), keys=keys()))
  short = LAYOUT.unpack(
    decoder(SAMPLED).decode(prompt(), keys=keys(), num_frames=5)
  )
  np.testing.assert_array_equal(short[:, :5], whole[:, :5])
  np.testing.assert_array_equal(short[:, 5:], NO_CODE)


def test_guidance_moves_the_logits_of_one_model_away_from_its_own():
  dropped = LAYOUT.drop_inputs(
    prompt(), streams=('clip',), dropped=np.ones(5, bool)
  )

  def decode(scale):
    config = dataclasses.replace(GREEDY, guidance_scale=scale)
    return decoder(config).decode(prompt(), keys=keys(), unconditional=dropped)

  np.testing.assert_array_equal(
    decode(1.0), decoder().decode(prompt(), keys=keys())
  )
  made = decode(3.0)
  codes = LAYOUT.unpack(made)
  null = made.copy()
  null[:, : LAYOUT.output.start] = dropped[:, : LAYOUT.output.start]
  guided = forward(null) + 3.0 * (forward(made) - forward(null))
  np.testing.assert_array_equal(codes, jnp.argmax(guided, axis=-1))
  assert not np.array_equal(codes, jnp.argmax(forward(made), axis=-1))


def test_nothing_is_compiled_for_another_prompt_seed_or_length():
  decode = decoder(SAMPLED).decode
  decode(prompt(), keys=keys())
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compiled.append(event)
  )
  try:
    decode(prompt(seed=1), keys=keys(first=9))
    decode(prompt(seed=2), keys=keys(first=3), num_frames=7)
    assert compiled.count(COMPILED) == 0
    decode(prompt(3), keys=keys(3))  # The probe itself works.
    assert compiled.count(COMPILED) > 0
  finally:
    jax.monitoring.clear_event_listeners()


def test_a_segment_writes_its_caches_where_they_are():
  """Nothing that the loop carries is copied when it is called."""
  state = jax.eval_shape(
    lambda: decoding._prefill(
      PARAMS, prompt(2), keys(2), config=CONFIG, num_positions=13
    )
  )
  caches = jax.eval_shape(
    lambda c: decoding._grow(c, capacity=16), state.caches
  )
  state = state.replace(caches=caches)
  lowered = decoding._run_segment.lower(
    PARAMS, state, np.int32(20), config=CONFIG, decoding=GREEDY
  )
  donated = jax.tree.map(lambda info: info.donated, lowered.args_info)
  _, of_state, *_ = donated[0]
  assert all(jax.tree.leaves(of_state))
  assert not any(jax.tree.leaves(donated[0][0]))
  num_donated = len(jax.tree.leaves(state))
  assert lowered.as_text().count('tf.aliasing_output') == num_donated


def test_progress_is_told_up_to_the_end():
  told = []
  decoder().decode(
    prompt(), keys=keys(), progress=lambda *counts: told.append(counts)
  )
  assert told[-1] == (24, 24)
  assert told == sorted(told)
  assert len(told) > 2


@pytest.mark.slow
def test_codes_are_the_same_over_a_mesh():
  config = toys.config(embed_dim=24, mlp_dim=40, position='aligned')
  objective = StageObjective(model=config)
  partitioner = Partitioner(data=2, fsdp=2, tensor=2)
  alone = StageDecoder(
    config=config, params=toys.params(config), decoding=GREEDY
  )
  wanted = alone.decode(prompt(8), keys=keys(8))
  batch = partitioner.place_batch(toys.batch(8), batch_size=8)
  boxed = jax.eval_shape(objective.init, jax.random.key(0), batch)['params']
  with partitioner.entered():
    specs = jax.tree.map(
      lambda leaf: partitioner._sharding(leaf.value, leaf.get_partition_spec()),
      boxed,
      is_leaf=lambda leaf: hasattr(leaf, 'get_partition_spec'),
    )
    spread = dataclasses.replace(
      alone, params=jax.device_put(alone.params, specs)
    )
    got = spread.decode(prompt(8), keys=keys(8))
  np.testing.assert_array_equal(got, wanted)


def test_published_stage_decodes_in_half_precision(tmp_path):
  objective = StageObjective(
    model=toys.config(scan_layers=True, position='aligned')
  )
  variables = objective.init(jax.random.key(0), toys.batch(2))
  bundles.publish(tmp_path, objective.bundle(variables))
  made = StageDecoder.of_bundle(
    bundles.load(tmp_path), decoding=GREEDY, dtype='bfloat16'
  )
  assert {leaf.dtype for leaf in jax.tree.leaves(made.params)} == {
    jnp.dtype('bfloat16')
  }
  assert LAYOUT.unpack(made.decode(prompt(), keys=keys())).min() >= 0


def test_a_stage_stored_in_int8_is_decoded_from_what_it_stores(tmp_path):
  """Greedy codes are the likeliest of the stored values' own logits."""
  objective = StageObjective(
    model=toys.config(embed_dim=32, mlp_dim=37, position='aligned')
  )
  contents = objective.bundle(objective.init(jax.random.key(0), toys.batch(2)))
  contents = dataclasses.replace(contents, storage='int8')
  bundles.publish(tmp_path, contents)
  bundle = bundles.load(tmp_path)
  stored = safetensors.numpy.load_file(tmp_path / bundles.WEIGHTS)
  whole = dataclasses.replace(GREEDY, segment_length=64)  # One program.
  made = StageDecoder.of_bundle(bundle, decoding=whole, dtype='int8')
  flat = fingerprint.flatten({'params': made.params})
  kernels = [path for path in stored if path.endswith('query_key_value/kernel')]
  assert len(kernels) == 2
  for path in kernels:
    first = (3, 0, 1, 2)
    np.testing.assert_array_equal(flat[path], stored[path].transpose(first))
    np.testing.assert_array_equal(
      flat[path + '_scale'], stored[path + '.scale'][..., 0]
    )
  for num_rows in (1, 3):  # In int8, and converted.
    tokens = made.decode(prompt(num_rows), keys=keys(num_rows))
    logits = toys.forward(bundle.config, bundle.weights['params'], tokens)
    codes = LAYOUT.unpack(tokens)[..., None]
    chosen = jnp.take_along_axis(logits, codes, axis=-1)[..., 0]
    np.testing.assert_allclose(chosen, logits.max(-1), atol=1e-4)


@pytest.mark.parametrize(
  'options, match',
  [
    ({'unconditional': prompt()}, 'unasked unconditional rows'),
    ({'num_frames': 13}, '13 are wanted'),
    ({'num_prefilled_frames': 4}, 'not all given'),
  ],
)
def test_requests_that_cannot_be_met_are_errors(options, match):
  with pytest.raises(ValueError, match=match):
    decoder().decode(prompt(), keys=keys(), **options)
  with pytest.raises(ValueError, match='rows of 38 positions'):
    decoder().decode(prompt()[:, :-1], keys=keys())


def test_no_code_is_made_twice_in_a_row_where_repeats_are_removed():
  """Cached greedy codes are the likeliest of all others of a whole row."""
  take = Take(stream=toys.SLOW, distinct_share='1/2')
  spec = StageSpec(
    name='runs',
    inputs=(Take(stream=toys.CLIP),),
    output=take,
    window_seconds=5,
  )
  config = dataclasses.replace(toys.config(), spec=spec)
  layout = config.layout
  tokens = layout.pack_prompt(
    toys.codes(3) | {'slow': np.zeros((3, 15, 1), np.int32)},
    given=np.zeros((3, 15, 1), bool),
  )
  variables = jax.jit(lm.StageLM(config).init)(jax.random.key(0), tokens)
  params = meta.unbox(variables)['params']
  # One code is wanted everywhere, so that repeats are what is likeliest.
  params['logit_table'] = params['logit_table'].at[-3].mul(30.0)

  def made(**settings):
    decoding_of = DecodingConfig(segment_length=8, **settings)
    is_guided = decoding_of.guidance_scale is not None
    return StageDecoder(
      config=config, params=params, decoding=decoding_of
    ).decode(tokens, keys=keys(3), unconditional=tokens if is_guided else None)

  for settings in (
    {'sampler': sampling.greedy},
    {},
    {'guidance_scale': 3.0},
  ):
    found = layout.unpack(made(**settings))[:, :, 0]
    assert found.min() >= 0
    assert np.all(found[:, 1:] != found[:, :-1])
  greedy = made(sampler=sampling.greedy)
  found = layout.unpack(greedy)[:, :, 0]
  logits = np.array(toys.forward(config, params, greedy))[:, :, 0]
  repeats = np.argmax(logits, axis=-1)[:, 1:] == found[:, :-1]
  assert repeats.any()  # The probe itself works.
  np.put_along_axis(logits[:, 1:], found[:, :-1, None], -np.inf, axis=-1)
  np.testing.assert_array_equal(found, np.argmax(logits, axis=-1))
