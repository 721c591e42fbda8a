# SPDX-License-Identifier: Apache-2.0
"""Music made worse by a known amount, to see what a metric makes of it.

Kilgour et al. (Fréchet Audio Distance, 2019, section 5) test their metric so.

Shapes: waveform [samples].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import scipy.signal

from musiclm_jax.audio import resample
from musiclm_jax.audio.resample import HostWaveform
from musiclm_jax.codec.base import Codec
from musiclm_jax.evaluation import clips as clips_of

# Of a waveform, its rate and a generator of noise.
Degradation = Callable[[HostWaveform, int, np.random.Generator], HostWaveform]

_FILTER_ORDER = 8


def noise(ratio_db: float) -> Degradation:
  """White noise, `ratio_db` below the level of the clip."""

  def degrade(
    waveform: HostWaveform, rate_hz: int, draw: np.random.Generator
  ) -> HostWaveform:
    level = np.sqrt(np.mean(waveform**2)) * 10 ** (-ratio_db / 20)
    return waveform + np.float32(level) * draw.standard_normal(
      waveform.size, np.float32
    )

  return degrade


def low_pass(cutoff_hz: float) -> Degradation:
  """Nothing much above `cutoff_hz`: Butterworth, without a delay."""

  def degrade(
    waveform: HostWaveform, rate_hz: int, draw: np.random.Generator
  ) -> HostWaveform:
    filters = scipy.signal.butter(
      _FILTER_ORDER, cutoff_hz, fs=rate_hz, output='sos'
    )
    return scipy.signal.sosfiltfilt(filters, waveform).astype(np.float32)

  return degrade


def gain(decibels: float) -> Degradation:
  """The same, louder or softer."""
  return lambda waveform, rate_hz, draw: (
    waveform * np.float32(10 ** (decibels / 20))
  )


def noise_alone(
  waveform: HostWaveform, rate_hz: int, draw: np.random.Generator
) -> HostWaveform:
  """White noise in its place, as loud."""
  level = np.sqrt(np.mean(waveform**2))
  return np.float32(level) * draw.standard_normal(waveform.size, np.float32)


def through(codec: Codec) -> Degradation:
  """What a codec makes of it at its own rate, all levels kept."""

  def degrade(
    waveform: HostWaveform, rate_hz: int, draw: np.random.Generator
  ) -> HostWaveform:
    codec_hz = codec.sample_rate_hz
    heard = resample.resample(waveform, from_hz=rate_hz, to_hz=codec_hz)
    codes = codec.encode(heard[None], sample_rate_hz=codec_hz)
    made = np.asarray(codec.decode(codes))[0, : heard.size]
    copy = resample.resample(made, from_hz=codec_hz, to_hz=rate_hz)
    # Both roundings of the length may leave a little less, or more.
    missing = max(waveform.size - copy.size, 0)
    return np.pad(copy, (0, missing))[: waveform.size]

  return degrade


ALL: Mapping[str, Degradation] = {
  'unchanged': gain(0.0),
  'noise 30 dB below': noise(30.0),
  'noise 20 dB below': noise(20.0),
  'noise 10 dB below': noise(10.0),
  'low-pass 2 kHz': low_pass(2_000.0),
  '60 dB softer': gain(-60.0),
  'noise in its place': noise_alone,
}


def apply(
  degradation: Degradation, clips: Iterable[clips_of.Clip], *, seed: int = 0
) -> Iterator[clips_of.Clip]:
  """Each clip made worse, under its name; noise is the same for one seed."""
  draw = np.random.default_rng(seed)
  for clip in clips:
    waveform = degradation(clip.waveform, clip.sample_rate_hz, draw)
    yield dataclasses.replace(clip, waveform=waveform)
