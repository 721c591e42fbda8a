# SPDX-License-Identifier: Apache-2.0
"""An exported folder's parts as calls from NumPy to NumPy.

So that others can put them beside JAX without importing torch. A call returns
when its work is done, copies to and from the device included.

Shapes: tokens [rows, length]; waveform [batch, samples]; codes [batch, frames,
levels].
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int

from musiclm_jax.export.pytorch import MusicLM
from musiclm_jax.export.pytorch.decoding import StageDecoder
from musiclm_jax.export.pytorch.sampling import Sampler


class Exported:
  """A folder that `musiclm export` wrote, loaded.

  Attributes:
    framework: What runs the stages, in words.
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    *,
    device: str,
    dtypes: Mapping[str, str],
    compiled: bool = False,
  ):
    """Loads it; on a CPU, PyTorch takes all cores that we may use, as JAX does.

    Args:
      folder: Of a whole MusicLM.
      device: Of PyTorch.
      dtypes: What each stage is computed in.
      compiled: Whether steps of the stages go through `torch.compile`.
    """
    if device == 'cpu':  # Else OMP_NUM_THREADS says how many.
      torch.set_num_threads(len(os.sched_getaffinity(0)))
    self.framework = 'torch, compiled' if compiled else 'torch'
    self._model = MusicLM.from_pretrained(folder, device=device)
    for name, dtype in dtypes.items():
      self._model.stages[name].to(getattr(torch, dtype))
    self._model.codec.fold_weight_norm()
    if compiled:
      for stage in self._model.stages.values():
        stage.step = torch.compile(stage.step)

  @property
  def device_name(self) -> str:
    """Of the GPU, or how many threads of the CPU."""
    device = self._model.device
    if device.type == 'cuda':
      return torch.cuda.get_device_name(device)
    return f'{torch.get_num_threads()} x CPU'

  @property
  def can_encode(self) -> bool:
    """Whether the codec has its encoder."""
    return self._model.codec.encoder is not None

  @torch.no_grad()
  def decode_stage(
    self, name: str, tokens: Int[np.ndarray, 'rows length']
  ) -> Int[np.ndarray, 'rows length']:
    """Makes all that is PAD in rows of a stage, drawing from the softmax."""
    seeds = torch.arange(len(tokens), device=self._model.device)
    decoder = StageDecoder(
      model=self._model.stages[name],
      index=0,
      sampler=Sampler(),
      guidance=None,
      dropped=(),
      max_rows=len(tokens),
    )
    rows = torch.from_numpy(tokens).long().to(self._model.device)
    made = decoder.decode(rows, seeds=seeds, places=torch.zeros_like(seeds))
    return made.cpu().numpy()

  def encode(
    self, waveform: Float[np.ndarray, 'batch samples']
  ) -> Int[np.ndarray, 'batch frames levels']:
    """The codes of a waveform at the codec's rate."""
    return self._model.codec.encode(torch.from_numpy(waveform)).cpu().numpy()

  def decode(
    self, codes: Int[np.ndarray, 'batch frames levels']
  ) -> Float[np.ndarray, 'batch samples']:
    """The waveform of codes."""
    codes = torch.from_numpy(codes).long()
    return self._model.codec.decode(codes).cpu().numpy()
