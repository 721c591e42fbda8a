# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.audio import spectral
from musiclm_jax.mulan import audio_tower, resnet, spec_augment
from tests.mulan import toys


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passing:
  """A body that gives back what it hears, of one frame and all mels."""

  types = {}

  def make(self, *, name):
    return _Passing(name=name)


class _Passing(nn.Module):
  @nn.compact
  def __call__(self, features, *, frame_mask):
    self.sow('heard', 'features', features)
    self.sow('heard', 'frame_mask', frame_mask)
    return features[:, 0]


def hear(batch, *, draws=None, **changes):
  """What the body is given."""
  config = dataclasses.replace(
    toys.config().audio, body=Passing(), mean=-7.0, scale=3.0, **changes
  )
  tower = audio_tower.AudioTower(config, embed_dim=5)
  arguments = {'sample_mask': batch['sample_mask'], 'draws': draws}
  params = toys.fill(tower.init, batch['waveform'], **arguments)
  _, heard = tower.apply(
    {'params': params['params']},
    batch['waveform'],
    **arguments,
    mutable=['heard'],
  )
  heard = heard['heard']['body']
  return np.asarray(heard['features'][0]), np.asarray(heard['frame_mask'][0])


def test_the_body_hears_the_scaled_log_mel_of_what_is_valid():
  batch = toys.batch(3)
  features, mask = hear(batch)
  log_mel = spectral.log_mel(batch['waveform'], config=toys.config().audio.mel)
  np.testing.assert_allclose(
    features[:2], (log_mel[:2] + 7) / 3, rtol=1e-4, atol=1e-4
  )
  # The last row ends half-way: nothing but the mean after it.
  assert mask[:2].all() and not mask[2].all()
  assert not features[2][~mask[2]].any()
  assert features[2][mask[2]].all()


def test_what_is_drawn_is_hidden():
  batch = toys.batch(3)
  augment = spec_augment.SpecAugmentConfig(
    num_time_bands=1, max_frames=5, num_mel_bands=0
  )
  draws = np.full((3, 1, 2), 0.99, np.float32)  # The last five frames.
  hidden, _ = hear(batch, draws=draws, augment=augment)
  plain, _ = hear(batch, augment=augment)
  assert not hidden[:, -5:].any()
  np.testing.assert_array_equal(hidden[:, :-5], plain[:, :-5])


def test_the_window_is_a_whole_number_of_samples():
  config = toys.config().audio
  assert config.window_samples == toys.SAMPLES
  with pytest.raises(ValueError, match='0.0001 s is 0.16 samples at 1600 Hz'):
    dataclasses.replace(config, window_seconds=0.0001)


def test_bodies_are_what_the_tower_asks_for():
  for body in (toys.vision_transformer_body(), resnet.ResNetConfig()):
    assert isinstance(body, audio_tower.BodyConfig)
