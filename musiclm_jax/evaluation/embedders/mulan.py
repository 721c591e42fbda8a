# SPDX-License-Identifier: Apache-2.0
"""Our MuLan as an embedder: 10 s windows, a second apart, and texts.

MusicLM (Agostinelli et al., 2023), section 3.1. A clip that is shorter than a
window is one window, masked after its end.

Shapes: waveform [samples], embeddings [windows, embed].
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from musiclm_jax.checkpoints import bundle
from musiclm_jax.conditioning import mulan
from musiclm_jax.conditioning.base import Embeddings
from musiclm_jax.evaluation.embedders import base


class MuLan:
  """The joint space of a bundle; a `TextEmbedder`.

  Attributes:
    name: 'mulan'.
    sample_rate_hz: Of the towers.
    dim: Of the space.
    window_seconds: Of the audio tower.
    hop_seconds: 1.
    weights_sha256: The fingerprint of the bundle.
  """

  name = 'mulan'
  hop_seconds = 1.0

  def __init__(
    self, space: mulan.MuLanSpace | mulan.MuLanConditioner, *, fingerprint: str
  ):
    self.sample_rate_hz = space.sample_rate_hz
    self.dim = space.embed_dim
    self.window_seconds = float(space.window_seconds)
    self.weights_sha256 = fingerprint
    self._space = space

  def embed(self, waveform: base.Clip) -> base.Frames:
    """One unit vector a window."""
    return self._space.embed_windows(
      waveform,
      sample_rate_hz=self.sample_rate_hz,
      hop_seconds=int(self.hop_seconds),
    )

  def embed_text(self, texts: Sequence[str]) -> Embeddings:
    """One unit vector a text."""
    return self._space.embed_text(texts)


def load(directory: str | os.PathLike[str]) -> MuLan:
  """The joint space of a bundle of towers, or of a conditioner."""
  return MuLan(
    mulan.load_space(directory),
    fingerprint=bundle.read_model_json(directory)['fingerprint'],
  )
