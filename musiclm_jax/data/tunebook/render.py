# SPDX-License-Identifier: Apache-2.0
"""MIDI to audio: midirenderer with the sound font out of pretty_midi.

TimGM6mb.sf2 (GPL-2) is read from the installed pip package pretty_midi and is
never redistributed. Neither renderer nor resampler draws anything, so that the
same MIDI file gives the same samples.

Shapes: waveform float32 [samples], mono.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import pathlib

import numpy as np
import soundfile
from jaxtyping import Float

from musiclm_jax.audio import loudness, resample

SAMPLE_RATE_HZ = 24_000

# Root mean square of a whole clip, in dB below full scale. The steps are what
# makes 'soft' and 'loud' true; the top leaves room for the peaks of a banjo.
LEVEL_DBFS = {
  'pp': -37.0,
  'p': -34.0,
  'mp': -31.0,
  'mf': -28.0,
  'f': -25.0,
  'ff': -22.0,
}


def render(midi: bytes, *, dynamics: str) -> Float[np.ndarray, ' samples']:
  """Renders a MIDI file at `SAMPLE_RATE_HZ`, at the level of `dynamics`."""
  import midirenderer

  wave = midirenderer.render_wave_from(sound_font(), midi)
  stereo, rate_hz = soundfile.read(io.BytesIO(wave), dtype='float32')
  if np.max(np.abs(stereo)) >= 1:
    raise ValueError('The renderer clipped: too many notes sound at once.')
  waveform = resample.resample(
    stereo.mean(axis=1), from_hz=rate_hz, to_hz=SAMPLE_RATE_HZ
  )
  return _at_level(waveform, level_dbfs=LEVEL_DBFS[dynamics])


@functools.lru_cache(maxsize=1)
def sound_font() -> bytes:
  """The sound font's bytes; pretty_midi itself is not imported."""
  found = importlib.util.find_spec('pretty_midi')
  if found is None:
    raise ValueError(
      'The tunebook data set renders with the sound font of the package'
      ' pretty_midi, which is not installed; run `pip install pretty_midi`.'
    )
  folder = pathlib.Path(found.submodule_search_locations[0])
  return (folder / 'TimGM6mb.sf2').read_bytes()


def _at_level(
  waveform: Float[np.ndarray, ' samples'], *, level_dbfs: float
) -> Float[np.ndarray, ' samples']:
  measured_db = loudness.rms_db(waveform)
  if measured_db == -np.inf:
    raise ValueError('The renderer gave silence.')
  scaled = waveform * np.float32(10 ** ((level_dbfs - measured_db) / 20))
  peak = np.max(np.abs(scaled))
  if peak > 1:
    raise ValueError(
      f'At {level_dbfs} dB below full scale its peak is {peak:.2f}; a clip'
      ' must stay within 1.'
    )
  return scaled
