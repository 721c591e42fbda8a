# SPDX-License-Identifier: Apache-2.0
"""CLAP: audio and texts in one space, from a folder on disk.

Large-scale contrastive language-audio pretraining (Wu et al., 2023), as
`transformers` has it (PyTorch, of the extra `hub`): a folder that
`save_pretrained` of a ClapModel and its ClapProcessor wrote, or which
`musiclm import_clap` made of a checkpoint of its authors. It hears windows of
the processor's length, 10 s, that do not overlap, so its fusion of longer clips
is not used; a shorter clip is repeated by us. Texts are cut where the processor
says. Vectors are scaled to length one.

Shapes: waveform [samples] at 48 kHz, embeddings [windows, dim].
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from musiclm_jax.evaluation.embedders import base

_ROWS_AT_A_TIME = 4
_COUNTS = ('_ids', '_index')  # No weights; some versions do not store them.


class Clap:
  """The joint space of a ClapModel; a `TextEmbedder`.

  Attributes:
    name: 'clap'.
    sample_rate_hz: Of its processor.
    dim: Of the space.
    window_seconds: Of its processor.
    hop_seconds: The same.
    weights_sha256: Of the files of weights.
  """

  name = 'clap'

  def __init__(self, model: Any, processor: Any, *, weights_sha256: str):
    extractor = processor.feature_extractor
    self.sample_rate_hz = extractor.sampling_rate
    self.window_seconds = self.hop_seconds = float(extractor.max_length_s)
    self.dim = model.config.projection_dim
    self.weights_sha256 = weights_sha256
    # Nothing is trained, so nothing is kept for gradients.
    self._model = model.eval().requires_grad_(False)
    self._processor = processor

  def embed(self, waveform: base.Clip) -> base.Frames:
    """A unit vector for each window."""
    samples = round(self.window_seconds * self.sample_rate_hz)
    windows = base.windows(
      waveform, window_samples=samples, hop_samples=samples
    )
    return np.concatenate(
      [
        self._embed_windows(windows[start : start + _ROWS_AT_A_TIME])
        for start in range(0, len(windows), _ROWS_AT_A_TIME)
      ]
    )

  def embed_text(self, texts: Sequence[str]) -> base.Frames:
    """A unit vector a text."""
    tokens = self._processor.tokenizer(
      list(texts), padding=True, truncation=True, return_tensors='pt'
    )
    return _unit(self._model.get_text_features(**tokens))

  def _embed_windows(self, windows: np.ndarray) -> base.Frames:
    features = self._processor.feature_extractor(
      list(windows), sampling_rate=self.sample_rate_hz, return_tensors='pt'
    )
    # For training's sake, the extractor of a model with fusion calls one of
    # them, drawn by chance, a part of a longer clip.
    features['is_longer'][:] = False
    return _unit(self._model.get_audio_features(**features))


def load(path: str | os.PathLike[str]) -> Clap:
  """The model of a folder; nothing is fetched.

  Raises:
    ValueError: There is no whole model in it, or `transformers` is not
      installed.
  """
  folder = pathlib.Path(path).expanduser()
  files = sorted([*folder.glob('*.safetensors'), *folder.glob('*.bin')])
  if not (folder / 'config.json').is_file() or not files:
    raise ValueError(
      f'{path} holds no config.json and weights; give the folder of a CLAP that'
      ' `save_pretrained` or `musiclm import_clap` wrote.'
    )
  try:
    import transformers
  except ImportError as error:
    raise ValueError(
      "CLAP runs on PyTorch: pip install 'musiclm_jax[hub]'."
    ) from error
  model, told = transformers.ClapModel.from_pretrained(
    folder,
    local_files_only=True,
    output_loading_info=True,
    ignore_mismatched_sizes=True,  # Told, and refused in our words.
  )
  lost = {name for name in told['missing_keys'] if not name.endswith(_COUNTS)}
  lost |= {str(mismatch[0]) for mismatch in told['mismatched_keys']}
  if lost:
    # The library would draw them at random.
    raise ValueError(
      f'The weights of {path} lack {min(lost)!r}, or have it in another shape,'
      f' and {len(lost) - 1} more; give all files of one CLAP.'
    )
  return Clap(
    model,
    transformers.ClapProcessor.from_pretrained(folder, local_files_only=True),
    weights_sha256=base.file_sha256(*files),
  )


def _unit(output: Any) -> base.Frames:
  vectors = getattr(output, 'pooler_output', output).numpy()
  return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
