# SPDX-License-Identifier: Apache-2.0
"""TRILL: the paper's other embedding for FAD, a SavedModel on disk.

Towards learning a universal non-semantic representation of speech (Shor et al.,
2020); MusicLM (Agostinelli et al., 2023), section 5.1, takes its third version.
TensorFlow runs it in a process of its own. Any SavedModel that is called the
same way will do: with `samples` and `sample_rate`, for a dict that has
'embedding', [batch, frames, dim].

Shapes: waveform [samples] at 16 kHz, embeddings [frames, dim].
"""

from __future__ import annotations

import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import weakref

import numpy as np

from musiclm_jax.evaluation.embedders import base

# By its name only: what needs TensorFlow is not imported here.
_WORKER = 'musiclm_jax.data.saved_model'
_OUTPUT = 'embedding'
_SAMPLE_RATE_HZ = 16_000
_SHORTEST_SECONDS = 1.0


class Trill:
  """A model that runs elsewhere; an `Embedder`.

  Attributes:
    name: 'trill'.
    sample_rate_hz: 16 kHz.
    dim: Of what it makes, asked of it once.
    window_seconds: 0.96, what a vector stands for; a clip shorter than 1 s is
      repeated.
    hop_seconds: 0.17.
    weights_sha256: Of all files of the SavedModel.
  """

  name = 'trill'
  sample_rate_hz = _SAMPLE_RATE_HZ
  window_seconds, hop_seconds = 0.96, 0.17

  def __init__(self, folder: pathlib.Path):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    self.weights_sha256 = base.file_sha256(*files)
    self._folder = folder
    self._told = tempfile.TemporaryFile()
    self._worker = subprocess.Popen(
      [sys.executable, '-m', _WORKER, str(folder), _OUTPUT],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._told,
    )
    self._stop = weakref.finalize(self, _stop, self._worker)
    silence = np.zeros(_SAMPLE_RATE_HZ, np.float32)
    self.dim = self.embed(silence).shape[1]

  def embed(self, waveform: base.Clip) -> base.Frames:
    """The vectors that the model makes of the clip."""
    shortest = round(_SHORTEST_SECONDS * self.sample_rate_hz)
    if 0 < waveform.size < shortest:
      waveform = np.resize(waveform, shortest)
    try:
      pickle.dump(np.asarray(waveform, np.float32), self._worker.stdin)
      self._worker.stdin.flush()
      found = pickle.load(self._worker.stdout)
    except (OSError, EOFError) as error:
      self._stop()
      self._told.seek(0)
      told = self._told.read().decode(errors='replace').strip().splitlines()
      raise ValueError(
        f'The model of {self._folder} gave nothing:'
        f' {told[-1] if told else "it ended"}'
      ) from error
    return np.asarray(found, np.float32)


def load(path: str | os.PathLike[str]) -> Trill:
  """Starts the model of a folder.

  Raises:
    ValueError: There is no SavedModel in it, or it is called another way.
  """
  folder = pathlib.Path(path).expanduser()
  if not (folder / 'saved_model.pb').is_file():
    raise ValueError(
      f'{path} holds no saved_model.pb; give the folder of a SavedModel.'
    )
  return Trill(folder)


def _stop(worker: subprocess.Popen) -> None:
  """Ends its input, which ends it; its pipes are closed."""
  for pipe in (worker.stdin, worker.stdout):
    try:
      pipe.close()
    except OSError:  # What was not yet sent has nobody to read it.
      pass
  worker.wait(timeout=60)
