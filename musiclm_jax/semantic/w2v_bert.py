# SPDX-License-Identifier: Apache-2.0
"""w2v-BERT: masked prediction of codes that a contrastive task keeps apart.

Chung et al., "w2v-BERT: Combining Contrastive Learning and Masked Language
Modeling for Self-Supervised Speech Pre-Training" (2021), section 3. Frames are
masked and pass a contrastive stack, whose outputs must tell the quantized
unmasked frame from others (wav2vec 2.0), and a second stack upon it, which must
name the code of that frame. MusicLM (Agostinelli et al., 2023), section 4.1,
reads the 7th block of the second stack.

Ours, since the paper does not say: a masked frame becomes one learned vector
(wav2vec 2.0, section 3.1), and a projection takes the contrastive stack's
outputs to the space of the codes (there too).

Shapes: samples at 16 kHz, frames at 25 Hz, embed = width, code = width of a
code's vector, codebook = codes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax import axes, metrics
from musiclm_jax.array_types import (
  FrameMask,
  Latents,
  PRNGKey,
  SampleMask,
  Waveform,
)
from musiclm_jax.layers import conformer, dense, parameters
from musiclm_jax.quantization import gumbel
from musiclm_jax.semantic.subsampling import Subsampling, SubsamplingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class W2vBertConfig:
  """Sizes of one w2v-BERT.

  Attributes:
    block: Of both stacks.
    num_contrastive_blocks: Of the first stack.
    num_mlm_blocks: Of the second.
    quantizer: What the targets are made by.
    subsampling: Waveform to frames.
  """

  block: conformer.ConformerConfig
  num_contrastive_blocks: int
  num_mlm_blocks: int
  quantizer: gumbel.GumbelQuantizerConfig
  subsampling: SubsamplingConfig = SubsamplingConfig()

  def __post_init__(self):
    if self.num_contrastive_blocks < 1 or self.num_mlm_blocks < 1:
      raise ValueError(
        f'w2v-BERT has two stacks of at least 1 block, not of'
        f' {self.num_contrastive_blocks} and {self.num_mlm_blocks}.'
      )

  @property
  def sample_rate_hz(self) -> int:
    return self.subsampling.sample_rate_hz

  @property
  def hop_samples(self) -> int:
    return self.subsampling.hop_samples

  @property
  def embed_dim(self) -> int:
    return self.block.embed_dim

  def frame_mask(self, sample_mask: SampleMask) -> FrameMask:
    """True at the frames that begin with a valid sample."""
    return self.subsampling.frame_mask(sample_mask)


@flax.struct.dataclass
class Prediction:
  """What a masked pass makes of a batch.

  Attributes:
    context: Of the contrastive stack, in the space of the codes.
    quantized: The unmasked frames.
    logits: Of each frame's code, from the second stack; at least float32.
  """

  context: Float[Array, 'batch frames code']
  quantized: gumbel.Quantized
  logits: Float[Array, 'batch frames codebook']


class W2vBert(nn.Module):
  """Both stacks, and the quantizer that makes their targets.

  Attributes:
    config: Sizes.
  """

  config: W2vBertConfig

  def setup(self) -> None:
    config, types = self.config, self.config.block.types
    self.subsampling = Subsampling(
      config.subsampling, embed_dim=config.embed_dim, **types
    )
    self.contrastive = conformer.Conformer(
      config.block, config.num_contrastive_blocks
    )
    self.mlm = conformer.Conformer(config.block, config.num_mlm_blocks)
    self.quantizer = gumbel.GumbelQuantizer(
      config.quantizer, param_dtype=types['param_dtype']
    )
    self.mask_vector = parameters.param(
      self,
      'mask_vector',
      nn.initializers.normal(1.0),  # As the normed frames.
      (config.embed_dim,),
      types['param_dtype'],
      axes=(axes.EMBED,),
    )
    self.to_code = dense.DenseGeneral(
      features=(config.quantizer.code_dim,),
      axes=(axes.MLP, axes.EMBED),
      use_bias=True,
      **types,
    )
    self.to_logits = dense.DenseGeneral(
      features=(config.quantizer.codebook_size,),
      axes=(axes.VOCAB, axes.EMBED),
      use_bias=True,
      **types,
    )

  def __call__(
    self,
    waveform: Waveform,
    *,
    sample_mask: SampleMask,
    span_mask: FrameMask,
    key: PRNGKey | None = None,
  ) -> Prediction:
    """Predicts what is masked.

    Args:
      waveform: In [-1, 1], at the config's rate.
      sample_mask: False over padding.
      span_mask: True where a frame is hidden from both stacks.
      key: Draws the codes of the quantizer; none are drawn if left out.
    """
    frames = self.subsampling(waveform, sample_mask=sample_mask)
    frame_mask = self.config.frame_mask(sample_mask)
    hidden = jnp.where(
      span_mask[:, :, None],
      self.mask_vector.astype(frames.dtype)[None, None],
      frames,
    )
    context = self.contrastive(hidden, frame_mask=frame_mask)
    predicted = self.mlm(context, frame_mask=frame_mask)
    logits = self.to_logits(predicted)
    return Prediction(
      context=self.to_code(context),
      quantized=self.quantizer(frames, key=key),
      logits=logits.astype(metrics.accumulation_dtype(logits.dtype)),
    )

  def features(
    self,
    waveform: Waveform,
    *,
    sample_mask: SampleMask,
    num_mlm_blocks: int,
  ) -> Latents:
    """What the second stack makes of unmasked frames, block by block.

    Only what is needed is run. Padded frames are 0.

    Args:
      waveform: In [-1, 1], at the config's rate.
      sample_mask: False over padding.
      num_mlm_blocks: After how many blocks of the second stack; with 0 it is
        the output of the first.
    """
    frame_mask = self.config.frame_mask(sample_mask)
    hidden = self.contrastive(
      self.subsampling(waveform, sample_mask=sample_mask),
      frame_mask=frame_mask,
    )
    hidden = self.mlm(hidden, frame_mask=frame_mask, num_blocks=num_mlm_blocks)
    return jnp.where(frame_mask[:, :, None], hidden, 0)


def to_inference(
  config: W2vBertConfig, params: Any
) -> tuple[W2vBertConfig, dict[str, Any]]:
  """A config and its parameters with separate blocks, however trained.

  Blocks that are not wanted can then be left out: `features` reads those that
  it runs and no others.
  """
  block = dataclasses.replace(config.block, scan_layers=False, remat=False)
  stacks = {
    'contrastive': config.num_contrastive_blocks,
    'mlm': config.num_mlm_blocks,
  }
  separate = {
    name: conformer.unstack_blocks(params[name], num_blocks=num_blocks)
    for name, num_blocks in stacks.items()
  }
  return dataclasses.replace(config, block=block), {**params, **separate}
