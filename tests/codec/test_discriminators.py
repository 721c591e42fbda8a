# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.codec import discriminators

PAPER = discriminators.DiscriminatorsConfig(
  members=(discriminators.WaveConfig(), discriminators.StftConfig())
)


def _judge_shapes(config, samples):
  """Parameters and judgements of a silent clip, as shapes."""
  module = discriminators.Discriminators(config)
  judged, variables = jax.eval_shape(
    lambda: module.init_with_output(
      jax.random.key(0), jnp.zeros((1, samples)), jnp.ones((1, samples), bool)
    )
  )
  return judged, meta.unbox(variables['params'])


def _count(tree):
  return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


def test_outputs_at_paper_size_are_the_papers():
  samples = 24 * 1024
  (full, half, quarter, stft), _ = _judge_shapes(PAPER, samples)
  for wave, rate in ((full, 1), (half, 2), (quarter, 4)):
    assert wave.logits.values.shape == (1, samples // rate // 4**4)
    assert [f.values.shape[-1] for f in wave.features] == [
      16, 64, 256, 1024, 1024, 1024,
    ]  # fmt: skip
  # T / (H * 8) x F / 64.
  steps = samples // 256 // 8
  assert stft.features[0].values.shape == (1, samples // 256, 512, 32)
  assert stft.features[-1].values.shape == (1, steps, 512 // 64, 512)
  assert stft.logits.values.shape == (1, steps)


def test_parameters_at_paper_size_are_counted_by_hand():
  _, params = _judge_shapes(PAPER, 4096)

  def conv(taps, channels_in, channels_out):  # direction, norm, bias
    return taps * channels_in * channels_out + 2 * channels_out

  wave = (
    conv(15, 1, 16)
    + conv(41, 4, 64)
    + conv(41, 4, 256)
    + 2 * conv(41, 4, 1024)
    + conv(5, 1024, 1024)
    + conv(3, 1024, 1)
  )
  assert _count(params['member_0']) == 3 * wave

  def block(taps, channels_in, channels_out):
    return (
      conv(9, channels_in, channels_in)
      + conv(taps, channels_in, channels_out)
      + conv(1, channels_in, channels_out)
    )

  stft = (
    conv(49, 2, 32)
    + block(12, 32, 64)
    + block(16, 64, 128)
    + block(12, 128, 128)
    + block(16, 128, 256)
    + block(12, 256, 256)
    + block(16, 256, 512)
    + conv(8, 512, 1)
  )
  assert _count(params['member_1']) == stft


def test_encodecs_discriminator_has_one_logit_a_frame_and_bin_at_each_window():
  config = discriminators.DiscriminatorsConfig(
    members=(discriminators.MultiStftConfig(),)
  )
  judged, _ = _judge_shapes(config, 4096)
  assert len(judged) == 5
  for window, judgement in zip((2048, 1024, 512, 256, 128), judged):
    frames, bins = 4096 // (window // 4), window // 2 + 1
    for _ in range(3):
      bins = (bins + 1) // 2
    assert judgement.logits.values.shape == (1, frames, bins)
    assert len(judgement.features) == 5


def test_parameters_carry_logical_axes():
  module = discriminators.Discriminators(PAPER)
  boxed = jax.eval_shape(
    lambda: module.init(
      jax.random.key(0), jnp.zeros((1, 4096)), jnp.ones((1, 4096), bool)
    )
  )['params']
  kernel = boxed['member_1']['block_0']['inner']['weight_v']
  assert kernel.names == ('kernel', None, 'channels_in', 'channels_out')


def test_halving_the_rate_is_a_mean_of_four():
  waveform = jnp.asarray([[4.0, 8.0, 12.0, 16.0, 20.0]])
  halved = discriminators.halve_rate(waveform)
  np.testing.assert_allclose(halved, [[6.0, 14.0, 9.0]])


def test_a_step_counts_if_it_stands_for_any_audio():
  mask = jnp.asarray([[True] * 5 + [False] * 6])
  steps = discriminators.steps_with_audio(mask, stride=2, num_steps=7)
  assert steps.tolist() == [[True, True, True, False, False, False, False]]


def test_impossible_sizes_are_refused():
  with pytest.raises(ValueError, match='multiples of 4'):
    discriminators.WaveConfig(channels=6)
  with pytest.raises(ValueError, match='a multiple of 128'):
    discriminators.StftConfig(window_samples=1000)
  with pytest.raises(ValueError, match='at least one'):
    discriminators.DiscriminatorsConfig(members=())
