# SPDX-License-Identifier: Apache-2.0
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.quantization import residual

KEY = jax.random.key(11)


def config(**changes):
  return residual.ResidualQuantizerConfig(
    **{
      'num_levels': 3,
      'codebook_size': 13,
      'dead_code_threshold': 0.0,
      **changes,
    }
  )


def quantizer(embed_dim=7, **changes):
  return residual.ResidualQuantizer(config(**changes), embed_dim=embed_dim)


def draw(batch=2, frames=31, embed=7, seed=0):
  generator = np.random.default_rng(seed)
  return generator.standard_normal((batch, frames, embed)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def init(module, latents):
  return nn.unbox(module.init(KEY, latents, key=KEY))


@functools.partial(jax.jit, static_argnums=0)
def train(module, variables, latents, *, key=KEY, mask=None):
  quantized, updates = module.apply(
    variables, latents, key=key, mask=mask, mutable=[residual.CODEBOOKS]
  )
  return quantized, {**variables, **updates}


@functools.partial(jax.jit, static_argnums=0)
def encode(module, variables, latents):
  return module.apply(variables, latents, method='encode')


@functools.partial(jax.jit, static_argnums=0)
def decode(module, variables, codes):
  return module.apply(variables, codes, method='decode')


def two_levels():
  """Codes at 0 and 10, then at -1 and 1."""
  module = quantizer(embed_dim=1, num_levels=2, codebook_size=2)
  embeddings = jnp.array([[[0.0], [10.0]], [[-1.0], [1.0]]])
  statistics = {
    'embeddings': embeddings,
    'counts': jnp.full((2, 2), 5.0),
    'initialised': jnp.bool(True),
  }
  return module, {residual.CODEBOOKS: statistics}


def test_codes_and_their_sum_are_those_by_hand():
  module, variables = two_levels()
  latents = jnp.array([[[0.4], [-3.0], [8.7], [12.0]]])
  codes = encode(module, variables, latents)
  np.testing.assert_array_equal(codes, [[[0, 1], [0, 0], [1, 0], [1, 1]]])
  decoded = decode(module, variables, codes)
  np.testing.assert_array_equal(decoded[0, :, 0], [1, -1, 9, 11])
  coarse = decode(module, variables, codes[..., :1])
  np.testing.assert_array_equal(coarse[0, :, 0], [0, 0, 10, 10])


def test_fewer_levels_are_the_first_of_all():
  module = quantizer()
  latents = draw()
  variables = init(module, latents)
  codes = encode(module, variables, latents)
  assert codes.shape == (2, 31, 3) and codes.dtype == jnp.int32
  for levels in (1, 2):
    few = module.apply(variables, latents, method='encode', num_levels=levels)
    np.testing.assert_array_equal(few, codes[..., :levels])


@pytest.mark.parametrize('factorized_dim', (None, 5))
def test_what_is_left_over_falls_with_every_level(factorized_dim):
  module = quantizer(factorized_dim=factorized_dim)
  latents = draw()
  variables = init(module, latents)
  if factorized_dim:
    # A projection and its transpose: what untrained ones add is noise.
    basis = np.linalg.qr(draw(3, 7, 5, seed=4))[0]
    variables['params'] = {
      'project_in': jnp.asarray(basis),
      'project_out': jnp.asarray(basis.swapaxes(1, 2)),
    }
  _, variables = train(module, variables, latents)
  codes = encode(module, variables, latents)
  energies = [np.mean(latents**2)]
  for levels in (1, 2, 3):
    decoded = decode(module, variables, codes[..., :levels])
    energies.append(float(np.mean((latents - decoded) ** 2)))
  assert all(b < 0.8 * a for a, b in zip(energies, energies[1:])), energies


def test_factorized_codes_do_not_depend_on_the_scale_of_the_latents():
  module = quantizer(factorized_dim=5, num_levels=1)
  latents = draw()
  variables = init(module, latents)
  _, variables = train(module, variables, latents)
  codes = encode(module, variables, latents)
  scaled = encode(module, variables, 7 * latents)
  np.testing.assert_array_equal(codes, scaled)
  assert len(np.unique(codes)) > 3  # The probe works.


def test_the_first_batch_starts_the_codebooks_and_later_ones_move_them():
  module = quantizer()
  latents = draw()
  variables = init(module, latents)
  assert not variables['codebooks']['initialised']
  _, started = train(module, variables, latents)
  assert started['codebooks']['initialised']
  before = np.mean((latents - _round_trip(module, variables, latents)) ** 2)
  after = np.mean((latents - _round_trip(module, started, latents)) ** 2)
  assert after < 0.5 * before
  # A second batch far away moves the codes by a hundredth of the way at most;
  # k-means would jump there.
  _, moved = train(module, started, latents + 100)
  old, new = started['codebooks'], moved['codebooks']
  assert np.abs(new['embeddings'][0] - old['embeddings'][0]).max() > 0
  assert np.abs(new['embeddings'][0]).max() < 60


def _round_trip(module, variables, latents):
  codes = encode(module, variables, latents)
  return decode(module, variables, codes)


def test_codebooks_stay_without_permission_to_change():
  module, variables = two_levels()
  quantized = module.apply(variables, jnp.array([[[3.0]]]), key=KEY)
  np.testing.assert_array_equal(quantized.codes, [[[0, 1]]])


def test_the_gradient_passes_straight_through():
  module = quantizer(dropout_rate=0.0)
  latents = draw()
  _, variables = train(module, init(module, latents), latents)
  weights = draw(seed=1)

  def weighted(latents):
    return jnp.sum(module.apply(variables, latents, key=KEY).latents * weights)

  np.testing.assert_allclose(jax.grad(weighted)(latents), weights, rtol=1e-6)


def test_commitment_is_the_mean_distance_of_each_level_kept():
  module, variables = two_levels()
  latents = jnp.array([[[0.4], [8.7]]])
  # Left over: 0.4 -> 0, then 0.4 -> 1; 8.7 -> 10, then -1.3 -> -1.
  errors = np.array([[0.4**2, 0.6**2], [1.3**2, 0.3**2]])
  for key in jax.random.split(KEY, 5):
    quantized = module.apply(variables, latents, key=key)
    kept = int(
      residual.draw_kept_levels(
        module.config, batch=1, key=jax.random.split(key, 3)[0]
      ).sum()
    )
    np.testing.assert_allclose(
      quantized.commitment.mean, errors[:, :kept].mean(), rtol=1e-5
    )
    decoded = decode(module, variables, quantized.codes[..., :kept])
    np.testing.assert_allclose(quantized.latents, decoded, rtol=1e-6)


def test_commitment_pulls_the_latents_to_their_codes():
  module, variables = two_levels()

  def commitment(latents):
    return module.apply(variables, latents, key=KEY).commitment.total

  slope = jax.grad(commitment)(jnp.array([[[0.4]]]))
  assert slope.shape == (1, 1, 1) and slope[0, 0, 0] != 0


def test_every_number_of_levels_is_kept_as_often():
  kept = residual.draw_kept_levels(config(), batch=3001, key=KEY)
  counts = np.bincount(np.asarray(kept).sum(1), minlength=4)
  assert counts[0] == 0
  # Binomial: one standard deviation is 26.
  np.testing.assert_allclose(counts[1:], 3001 / 3, atol=110)
  np.testing.assert_array_equal(kept, np.sort(kept, axis=1)[:, ::-1])


def test_the_dropout_rate_is_the_share_of_examples_that_drop():
  drawn = residual.draw_kept_levels(
    config(num_levels=101, dropout_rate=0.25), batch=3001, key=KEY
  )
  assert 0.21 < np.mean(~np.asarray(drawn)[:, -1]) < 0.29
  never = residual.draw_kept_levels(config(dropout_rate=0.0), batch=31, key=KEY)
  assert np.all(never)


def test_masked_frames_change_no_statistic():
  module = quantizer()
  latents = draw()
  mask = np.ones((2, 31), bool)
  mask[1, 19:] = False
  spoilt = latents.copy()
  spoilt[~mask] = 1e4
  variables = init(module, latents)
  one, first = train(module, variables, latents, mask=mask)
  two, second = train(module, variables, spoilt, mask=mask)
  jax.tree.map(np.testing.assert_array_equal, first, second)
  np.testing.assert_array_equal(one.perplexity, two.perplexity)
  np.testing.assert_array_equal(one.commitment.mean, two.commitment.mean)


def test_perplexity_and_usage_are_of_the_codes_of_the_batch():
  module = quantizer()
  latents = draw()
  quantized, _ = train(module, init(module, latents), latents)
  for level in range(3):
    counts = np.bincount(
      np.asarray(quantized.codes)[..., level].ravel(), minlength=13
    )
    shares = counts[counts > 0] / counts.sum()
    np.testing.assert_allclose(
      quantized.perplexity[level],
      np.exp(-np.sum(shares * np.log(shares))),
      rtol=1e-5,
    )
    np.testing.assert_allclose(
      quantized.usage[level], np.mean(counts > 0), rtol=1e-6
    )


def test_half_precision_latents_are_quantized_in_float32():
  module = quantizer()
  latents = draw()
  variables = init(module, latents)
  half = jnp.asarray(latents, jnp.bfloat16)
  quantized, trained = train(module, variables, half)
  assert quantized.latents.dtype == jnp.bfloat16
  assert trained['codebooks']['embeddings'].dtype == jnp.float32
  full, _ = train(module, variables, half.astype(jnp.float32))
  np.testing.assert_array_equal(quantized.codes, full.codes)


def test_float32_and_float64_choose_the_same_codes():
  latents = draw(batch=5, frames=97)
  single = quantizer()
  variables = init(single, latents)
  with jax.enable_x64():
    double = single.clone(param_dtype=jnp.float64)
    wide = jax.tree.map(
      lambda leaf: leaf.astype('float64') if leaf.dtype != bool else leaf,
      variables,
    )
    codes = encode(double, wide, latents.astype('float64'))
    _, trained = train(double, wide, jnp.asarray(latents, jnp.float64))
    assert trained['codebooks']['embeddings'].dtype == jnp.float64
  found = encode(single, variables, latents)
  assert np.mean(found == codes) > 0.999


def test_a_mesh_of_eight_devices_moves_the_codebooks_alike():
  module = quantizer(embed_dim=8, dead_code_threshold=2.0)
  latents = draw(batch=8, frames=24, embed=8).astype(np.float64)
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  with jax.enable_x64():
    module = module.clone(param_dtype=jnp.float64)
    variables = init(module, jnp.asarray(latents))
    results = []
    for sharding in (None, jax.NamedSharding(mesh, jax.P('data'))):
      moved, batch = variables, jnp.asarray(latents)
      if sharding is not None:
        batch = jax.device_put(batch, sharding)
      for _ in range(3):
        quantized, moved = train(module, moved, batch)
      results.append((quantized.codes, moved['codebooks']['embeddings']))
  (codes, embeddings), (spread_codes, spread_embeddings) = results
  np.testing.assert_array_equal(codes, spread_codes)
  np.testing.assert_allclose(embeddings, spread_embeddings, rtol=1e-9)


def test_more_levels_than_there_are_is_an_error():
  module, variables = two_levels()
  with pytest.raises(ValueError, match='has 2 levels, not 3'):
    module.apply(variables, jnp.zeros((1, 5, 3), jnp.int32), method='decode')
  with pytest.raises(ValueError, match='has 2 levels, not 0'):
    module.apply(variables, jnp.zeros((1, 5, 1)), method='encode', num_levels=0)


def test_a_config_that_contradicts_itself_is_refused():
  with pytest.raises(ValueError, match='at least 1 level of 2 codes'):
    config(codebook_size=1)
  with pytest.raises(ValueError, match='dropout_rate is 1.5'):
    config(dropout_rate=1.5)
