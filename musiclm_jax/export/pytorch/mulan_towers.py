# SPDX-License-Identifier: Apache-2.0
"""The two towers of MuLan: audio or token ids to unit vectors.

MuLan (Huang et al., 2022), section 3.1. Audio: log-mel, then a ResNet (He et
al., 2016, table 1, with GroupNorm) or a Vision Transformer (AST: Gong et al.,
2021, section 2.1). Text: BERT (Devlin et al., 2019, section 3).

Shapes: waveform [batch, samples], features [batch, frames, mels], tokens
[batch, length], embeddings [batch, embed].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import layers
from .configuration import Config
from .spectral import LogMel

# A block's output over its inner width.
_EXPANSION = 4

# A text is one segment of the two that BERT tells apart.
_NUM_SEGMENTS = 2


class AudioTower(nn.Module):
  """One window a row."""

  def __init__(self, config: Config, *, embed_dim: int):
    super().__init__()
    self.mean, self.scale = config.mean, config.scale
    self.log_mel = LogMel(**vars(config.mel))
    body = config.body
    if hasattr(body, 'patch'):
      window = int(config.window_seconds * config.mel.sample_rate_hz)
      self.body = VisionTransformer(
        body,
        num_frames=self.log_mel.num_frames(window),
        num_mels=self.log_mel.num_filters,
      )
    else:
      self.body = ResNet(body)
    self.projection = Projection(self.body.width, embed_dim)

  def forward(self, waveform: Tensor, *, sample_mask: Tensor) -> Tensor:
    """Embeds windows.

    Args:
      waveform: At the tower's rate.
      sample_mask: False over padding.
    """
    frame_mask = self.log_mel.frame_mask(sample_mask)
    features = self.log_mel(waveform.masked_fill(~sample_mask, 0))
    features = (features - self.mean) / self.scale
    features = features.masked_fill(~frame_mask[:, :, None], 0)
    dtype = self.projection.map.weight.dtype
    return self.projection(self.body(features.to(dtype), frame_mask))


class TextTower(nn.Module):
  """One text a row."""

  def __init__(self, config: Config, *, embed_dim: int):
    super().__init__()
    num_ids = len(config.vocabulary.tokens)
    self.bert = Bert(config.bert, num_ids=num_ids)
    width = config.bert.encoder.embed_dim
    self.projection = Projection(width, embed_dim)

  def forward(self, tokens: Tensor, *, token_mask: Tensor) -> Tensor:
    return self.projection(self.bert(tokens, token_mask)[:, 0])


class Projection(nn.Module):
  """A linear map, and length one, in float32."""

  def __init__(self, width: int, embed_dim: int):
    super().__init__()
    self.map = nn.Linear(width, embed_dim)

  def forward(self, pooled: Tensor) -> Tensor:
    embedding = self.map(pooled).float()
    square = embedding.square().sum(dim=-1, keepdim=True)
    return embedding * torch.rsqrt(square + 1e-12)


class Bert(nn.Module):
  """Token ids to contextual vectors, norms after the layers."""

  def __init__(self, config: Config, *, num_ids: int):
    super().__init__()
    body = config.encoder
    self.words = nn.Embedding(num_ids, body.embed_dim)
    self.positions = nn.Embedding(config.max_tokens, body.embed_dim)
    self.segments = nn.Embedding(_NUM_SEGMENTS, body.embed_dim)
    self.norm = layers.LayerNorm(body.embed_dim, epsilon=body.norm_epsilon)
    self.encoder = Encoder(body)

  def forward(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
    places = self.positions.weight[: tokens.shape[1]] + self.segments.weight[:1]
    return self.encoder(self.norm(self.words(tokens) + places), token_mask)


class Encoder(nn.Module):
  """Blocks of attention in both directions, norms before or after layers."""

  def __init__(self, config: Config):
    super().__init__()
    self.layers = nn.ModuleList(
      EncoderBlock(config) for _ in range(config.num_layers)
    )
    self.norm = nn.Identity()
    if config.norm == 'before':
      self.norm = layers.LayerNorm(
        config.embed_dim, epsilon=config.norm_epsilon
      )

  def forward(self, embedded: Tensor, valid_mask: Tensor) -> Tensor:
    mask = valid_mask[:, None, None]
    hidden = embedded
    for block in self.layers:
      hidden = block(hidden, mask)
    return self.norm(hidden)


class EncoderBlock(nn.Module):
  """Attention, then feed-forward, each added to the stream."""

  def __init__(self, config: Config):
    super().__init__()
    width, epsilon = config.embed_dim, config.norm_epsilon
    self.norms_before = config.norm == 'before'
    self.attention_norm = layers.LayerNorm(width, epsilon=epsilon)
    self.attention = layers.SelfAttention(
      embed_dim=width,
      num_heads=config.num_heads,
      head_dim=width // config.num_heads,
      bias=True,
    )
    self.feedforward_norm = layers.LayerNorm(width, epsilon=epsilon)
    self.feedforward = layers.FeedForward(
      embed_dim=width,
      mlp_dim=config.mlp_dim,
      is_gated=False,
      activation=functional.gelu,
      bias=True,
    )

  def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
    if self.norms_before:
      hidden = hidden + self.attention(self.attention_norm(hidden), mask=mask)
      return hidden + self.feedforward(self.feedforward_norm(hidden))
    hidden = self.attention_norm(hidden + self.attention(hidden, mask=mask))
    return self.feedforward_norm(hidden + self.feedforward(hidden))


class VisionTransformer(nn.Module):
  """Patches of a spectrogram and a [CLS] vector through an encoder."""

  def __init__(self, config: Config, *, num_frames: int, num_mels: int):
    super().__init__()
    self.patch, self.stride = config.patch, config.stride
    self.width = config.encoder.embed_dim
    (size_t, size_m), (step_t, step_m) = self.patch, self.stride
    num_patches = ((num_frames - size_t) // step_t + 1) * (
      (num_mels - size_m) // step_m + 1
    )
    self.patches = nn.Linear(size_t * size_m, self.width)
    self.cls = nn.Parameter(torch.zeros(1, self.width))
    self.positions = nn.Embedding(1 + num_patches, self.width)
    self.encoder = Encoder(config.encoder)

  def forward(self, features: Tensor, frame_mask: Tensor) -> Tensor:
    (size_t, size_m), (step_t, step_m) = self.patch, self.stride
    patches = features.unfold(1, size_t, step_t).unfold(2, size_m, step_m)
    num_bands = patches.shape[2]
    embedded = self.patches(patches.flatten(1, 2).flatten(2))
    first = self.cls.expand(len(features), 1, -1)
    embedded = torch.cat([first, embedded], dim=1) + self.positions.weight
    # [CLS], and the patches in which a frame is valid.
    valid = frame_mask.unfold(1, size_t, step_t).any(dim=-1)
    valid = valid.repeat_interleave(num_bands, dim=1)
    valid = functional.pad(valid, (1, 0), value=True)
    return self.encoder(embedded, valid)[:, 0]


class ResNet(nn.Module):
  """A stem, stages of bottleneck blocks, and the mean of what is left."""

  def __init__(self, config: Config):
    super().__init__()
    channels, groups = config.channels, config.num_groups
    self.stem = nn.Conv2d(1, channels, 7, stride=2, padding=3, bias=False)
    self.stem_norm = GroupNorm(groups, channels)
    self.frames_a_step = 2 ** (len(config.blocks) + 1)
    self.names, width_in = [], channels
    for stage, num_blocks in enumerate(config.blocks):
      width = channels * 2**stage
      for index in range(num_blocks):
        name = f'stage_{stage}_block_{index}'
        self.names.append(name)
        stride = 2 if stage and not index else 1
        self.add_module(
          name, Bottleneck(width_in, width, stride=stride, num_groups=groups)
        )
        width_in = width * _EXPANSION
    self.width = width_in

  def forward(self, features: Tensor, frame_mask: Tensor) -> Tensor:
    hidden = functional.relu(self.stem_norm(self.stem(features[:, None])))
    hidden = functional.max_pool2d(hidden, 3, stride=2, padding=1)
    for name in self.names:
      hidden = getattr(self, name)(hidden)  # [batch, channels, steps, bins]
    missing = -frame_mask.shape[1] % self.frames_a_step
    steps = functional.pad(frame_mask, (0, missing))
    steps = steps.unflatten(1, (-1, self.frames_a_step)).any(dim=-1)
    weights = steps[:, None].float()
    total = (hidden.float().mean(dim=3) * weights).sum(dim=2)
    count = weights.sum(dim=2).clamp(min=1)
    return (total / count).to(hidden.dtype)


class Bottleneck(nn.Module):
  """1 × 1 down, 3 × 3, 1 × 1 up, added to what came in."""

  channels_first = True

  def __init__(
    self, width_in: int, width: int, *, stride: int, num_groups: int
  ):
    super().__init__()
    width_out = width * _EXPANSION
    self.down = nn.Conv2d(width_in, width, 1, bias=False)
    self.down_norm = GroupNorm(num_groups, width)
    self.middle = nn.Conv2d(
      width, width, 3, stride=stride, padding=1, bias=False
    )
    self.middle_norm = GroupNorm(num_groups, width)
    self.up = nn.Conv2d(width, width_out, 1, bias=False)
    self.up_norm = GroupNorm(num_groups, width_out)
    self.has_shortcut = stride > 1 or width_in != width_out
    if self.has_shortcut:
      self.shortcut = nn.Conv2d(
        width_in, width_out, 1, stride=stride, bias=False
      )
      self.shortcut_norm = GroupNorm(num_groups, width_out)

  def forward(self, inputs: Tensor) -> Tensor:
    hidden = functional.relu(self.down_norm(self.down(inputs)))
    hidden = functional.relu(self.middle_norm(self.middle(hidden)))
    hidden = self.up_norm(self.up(hidden))
    if self.has_shortcut:
      inputs = self.shortcut_norm(self.shortcut(inputs))
    return functional.relu(inputs + hidden)


class GroupNorm(nn.GroupNorm):
  """Over all steps of an example, in float32."""

  channels_first = True

  def __init__(self, num_groups: int, channels: int):
    super().__init__(num_groups, channels, eps=layers.EPSILON)

  def forward(self, inputs: Tensor) -> Tensor:
    return functional.group_norm(
      inputs.float(),
      self.num_groups,
      self.weight.float(),
      self.bias.float(),
      self.eps,
    ).to(inputs.dtype)
