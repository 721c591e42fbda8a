# SPDX-License-Identifier: Apache-2.0
"""The notes of a clip by basic-pitch, and how far they are those wanted.

A Lightweight Instrument-Agnostic Model for Polyphonic Note Transcription and
Multipitch Estimation (Bittner et al., 2022). Its network is run from the ONNX file
of the package `basic-pitch`, whose Python is not imported, for it loads
TensorFlow. What follows the network is ours and simpler: a note begins at a local
maximum of its pitch's onsets above 0.5, and lasts while the pitch sounds (above
0.3), or until the next begins.

Notes are compared by mir_eval: onsets within 50 ms, pitches within a quarter
tone, ends not at all (F1); and by the cosine of their pitch classes' durations,
which forgives octaves and time.

Shapes: onsets, sounding [frames, pitches], from A0 on, 88 of them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import mir_eval
import numpy as np
import onnxruntime
from jaxtyping import Float, Int

from musiclm_jax.audio import resample

SAMPLE_RATE_HZ = 22_050
_HOP_SAMPLES = 256
_WINDOW_SAMPLES = 2 * SAMPLE_RATE_HZ - _HOP_SAMPLES
# Frames at either end of a window that are thrown away.
_MARGIN_FRAMES = 15
_STEP_SAMPLES = _WINDOW_SAMPLES - 2 * _MARGIN_FRAMES * _HOP_SAMPLES
_LOWEST_PITCH = 21  # MIDI number of A0
_ONSET_THRESHOLD, _SOUNDING_THRESHOLD = 0.5, 0.3
_SHORTEST_SECONDS = 0.058  # Ours: the tunes have notes of a tenth of a second.
_ATTACK_FRAMES = 3
_ONSETS, _SOUNDING = 'StatefulPartitionedCall:2', 'StatefulPartitionedCall:1'
_PARTS = ('saved_models', 'icassp_2022', 'nmp.onnx')

Times = Float[np.ndarray, ' frames']
Activations = Float[np.ndarray, 'frames pitches']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notes:
  """Notes in order of their onsets.

  Attributes:
    onset_seconds: Of each.
    duration_seconds: Of each.
    pitch: MIDI numbers.
  """

  onset_seconds: Float[np.ndarray, ' notes']
  duration_seconds: Float[np.ndarray, ' notes']
  pitch: Int[np.ndarray, ' notes']

  @classmethod
  def of_facts(
    cls,
    facts: Mapping[str, Any],
    *,
    start: float = 0.0,
    seconds: float = np.inf,
  ) -> Notes:
    """Those of a corpus' facts that begin in a part of the clip."""
    onset = np.array(facts['onset_seconds'], np.float64) - start
    inside = (onset >= 0) & (onset < seconds)
    return cls(
      onset_seconds=onset[inside],
      duration_seconds=np.array(facts['duration_seconds'], float)[inside],
      pitch=np.array(facts['pitch'], int)[inside],
    )


class Transcriber:
  """basic-pitch, loaded once."""

  def __init__(self):
    spec = importlib.util.find_spec('basic_pitch')
    if spec is None:
      raise ValueError(
        'The package basic-pitch, whose weights are wanted, is not installed:'
        ' pip install --no-deps basic-pitch==0.4.0'
      )
    folder = pathlib.Path(spec.submodule_search_locations[0])
    self._session = onnxruntime.InferenceSession(
      str(folder.joinpath(*_PARTS)), providers=['CPUExecutionProvider']
    )
    self._input = self._session.get_inputs()[0].name

  def __call__(
    self, waveform: Float[np.ndarray, ' samples'], *, sample_rate_hz: int
  ) -> Notes:
    """The notes of a clip."""
    return read_notes(
      *self.activations(
        resample.resample(
          waveform, from_hz=sample_rate_hz, to_hz=SAMPLE_RATE_HZ
        )
      )
    )

  def activations(
    self, waveform: Float[np.ndarray, ' samples']
  ) -> tuple[Times, Activations, Activations]:
    """Times, onsets and what sounds, windows end to end.

    A window's step is no whole number of frames; those beyond it are the next
    one's.
    """
    margin = _MARGIN_FRAMES * _HOP_SAMPLES
    starts = np.arange(0, waveform.size, _STEP_SAMPLES)
    padded = np.pad(waveform, (margin, _WINDOW_SAMPLES)).astype(np.float32)
    windows = np.stack([padded[s : s + _WINDOW_SAMPLES] for s in starts])
    onsets, sounding = self._session.run(
      [_ONSETS, _SOUNDING], {self._input: windows[..., None]}
    )
    places = np.arange(0, _STEP_SAMPLES, _HOP_SAMPLES)
    kept = slice(_MARGIN_FRAMES, _MARGIN_FRAMES + len(places))
    times = (starts[:, None] + places[None]).reshape(-1) / SAMPLE_RATE_HZ
    inside = times < waveform.size / SAMPLE_RATE_HZ
    onsets, sounding = (
      found[:, kept].reshape(len(times), -1)[inside]
      for found in (onsets, sounding)
    )
    return times[inside], onsets, sounding


def read_notes(
  times: Times, onsets: Activations, sounding: Activations
) -> Notes:
  """Notes of what the network gives, in order of onset and pitch."""
  padded = np.pad(onsets, ((1, 1), (0, 0)), constant_values=-1)
  is_peak = (
    (onsets >= _ONSET_THRESHOLD)
    & (onsets > padded[:-2])
    & (onsets >= padded[2:])
  )
  frame_seconds = _HOP_SAMPLES / SAMPLE_RATE_HZ
  found = []
  for place, pitch in np.argwhere(is_peak):
    # The network is sure of a note only a few frames after its onset.
    after = sounding[place:, pitch] < _SOUNDING_THRESHOLD
    after[:_ATTACK_FRAMES] = False
    after[1:] |= is_peak[place + 1 :, pitch]
    ends = np.flatnonzero(after)
    num_frames = ends[0] if ends.size else len(after)
    duration = num_frames * frame_seconds
    if duration >= _SHORTEST_SECONDS:
      found.append((times[place], duration, pitch + _LOWEST_PITCH))
  onset, duration, pitch = np.array(found).reshape(-1, 3).T
  return Notes(
    onset_seconds=onset, duration_seconds=duration, pitch=pitch.astype(int)
  )


def onset_f1(wanted: Notes, heard: Notes) -> float:
  """Of notes whose onset and pitch agree; 0 where either has none."""
  if not wanted.pitch.size or not heard.pitch.size:
    return 0.0
  _, _, f1, _ = mir_eval.transcription.precision_recall_f1_overlap(
    *_of_mir_eval(wanted), *_of_mir_eval(heard), offset_ratio=None
  )
  return float(f1)


def chroma_cosine(wanted: Notes, heard: Notes) -> float:
  """Of the time that each pitch class sounds; 0 where either has none."""
  first, second = (
    np.bincount(notes.pitch % 12, weights=notes.duration_seconds, minlength=12)
    for notes in (wanted, heard)
  )
  norms = np.linalg.norm(first) * np.linalg.norm(second)
  return float(first @ second / norms) if norms else 0.0


def _of_mir_eval(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
  """Intervals in seconds, and pitches in Hz."""
  onset = notes.onset_seconds
  return (
    np.stack([onset, onset + notes.duration_seconds], axis=1),
    mir_eval.util.midi_to_hz(notes.pitch),
  )
