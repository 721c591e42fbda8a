# SPDX-License-Identifier: Apache-2.0
"""MuLan: clips and texts to one space, and points of it to codes.

MusicLM (Agostinelli et al., 2023), section 3.1: windows of 10 s with a hop of
1 s are embedded and averaged, and residual codebooks make 12 codes of the mean.
A text's embedding goes through the same codebooks.

A clip shorter than a window is one window, silent and masked after its end.
Samples after the last whole window of a longer clip are in none.

Shapes: waveform [batch, samples], embeddings [batch, embed] of length one,
codes [batch, 1, levels].
"""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import configuration
from .layout import TokenStream
from .mulan_towers import AudioTower, TextTower
from .quantizer import ResidualQuantizer
from .resample import resample

# What is embedded at a time, filled up with copies: an embedding then cannot
# depend on how many others were asked for. Texts are padded to a length that
# each alone decides.
_WINDOW_ROWS = 8
_TEXT_ROWS = 16
_SHORTEST = 32


class MuLan(nn.Module):
  """Both towers and the codebooks of their space.

  Attributes:
    sample_rate_hz: That the audio tower works at.
    window_samples: Of each window.
    embed_dim: Of the space.
    stream: The codes it makes.
  """

  def __init__(self, config: configuration.Config, *, stream: TokenStream):
    """Makes untrained weights.

    Args:
      config: `config` of the conditioner's `config.json`.
      stream: Its `stream_out`.
    """
    super().__init__()
    towers = config.towers
    self.stream = stream
    self.sample_rate_hz = towers.audio.mel.sample_rate_hz
    self.window_samples = int(towers.audio.window_seconds * self.sample_rate_hz)
    self.embed_dim = towers.embed_dim
    self._hop_samples = config.hop_seconds * self.sample_rate_hz
    self._max_tokens = towers.max_tokens
    self._vocabulary = towers.text.vocabulary
    self.audio = AudioTower(towers.audio, embed_dim=self.embed_dim)
    self.text = TextTower(towers.text, embed_dim=self.embed_dim)
    # Of training: kept, so that the way back is exact.
    self.temperature_logit = nn.Parameter(torch.zeros(()))
    self.logit_bias = nn.Parameter(torch.zeros(()))
    self.quantizer = ResidualQuantizer(
      config.quantizer, embed_dim=self.embed_dim
    )

  @classmethod
  def from_pretrained(
    cls,
    folder: configuration.Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
  ) -> MuLan:
    """The conditioner that was exported to `folder`."""
    found = configuration.read_config(folder, kind='conditioner')
    stream = TokenStream.of(found.stream_out)
    model = cls(found.config, stream=stream)
    configuration.load_weights(model, folder, device=device, dtype=dtype)
    return model

  @property
  def device(self) -> torch.device:
    return self.quantizer.embeddings.device

  @torch.no_grad()
  def embed_audio(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
    """The mean direction of the windows of each clip, [batch, embed].

    Args:
      waveform: [batch, samples] of floats in [-1, 1].
      sample_rate_hz: Its rate; resampled if it is not the model's.
    """
    _require_audio(waveform)
    clips = resample(
      waveform.to(self.device),
      from_hz=sample_rate_hz,
      to_hz=self.sample_rate_hz,
    )
    missing = max(0, self.window_samples - clips.shape[1])
    mask = torch.ones_like(clips, dtype=torch.bool)
    clips, mask = (
      nn.functional.pad(part, (0, missing)).unfold(
        1, self.window_samples, self._hop_samples
      )
      for part in (clips, mask)
    )  # [batch, windows, samples]
    num_windows = clips.shape[1]
    embedded = _in_parts(
      lambda rows, mask: self.audio(rows, sample_mask=mask),
      (clips.flatten(0, 1), mask.flatten(0, 1)),
      num_rows=_WINDOW_ROWS,
    )
    return _mean_direction(embedded.unflatten(0, (-1, num_windows)))

  @torch.no_grad()
  def embed_text(self, texts: Sequence[str]) -> Tensor:
    """One unit vector a text, [batch, embed]."""
    if isinstance(texts, str) or not texts:
      raise ValueError(
        f'A list of at least one text is wanted, not {texts!r}; put a single'
        ' text into brackets.'
      )
    if blank := [n for n, text in enumerate(texts) if not text.strip()]:
      raise ValueError(f'Texts number {blank} are empty; leave them out.')
    by_length = collections.defaultdict(list)
    for number, text in enumerate(texts):
      ids = self.token_ids(text)
      by_length[self._padded_length(ids)].append((number, ids))
    embeddings = torch.zeros(len(texts), self.embed_dim, device=self.device)
    for length, found in by_length.items():
      tokens, mask = self._padded([ids for _, ids in found], length=length)
      embeddings[[number for number, _ in found]] = _in_parts(
        lambda tokens, mask: self.text(tokens, token_mask=mask),
        (tokens, mask),
        num_rows=_TEXT_ROWS,
      )
    return embeddings

  @torch.no_grad()
  def quantize(self, embeddings: Tensor) -> Tensor:
    """The codes of points: [batch, embed] to [batch, 1, levels]."""
    if embeddings.ndim != 2 or embeddings.shape[1] != self.embed_dim:
      raise ValueError(
        f'Embeddings are [batch, {self.embed_dim}], not'
        f' {list(embeddings.shape)}.'
      )
    return self.quantizer.encode(embeddings.to(self.device)[:, None])

  def encode_audio(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
    """The codes of clips."""
    return self.quantize(self.embed_audio(waveform, sample_rate_hz))

  def encode_text(self, texts: Sequence[str]) -> Tensor:
    """The codes of texts."""
    return self.quantize(self.embed_text(texts))

  def token_ids(self, text: str) -> list[int]:
    """All ids of one text, [CLS] and [SEP] included, as the tower reads them.

    A text that is too long is cut and keeps its [SEP].
    """
    found = self._tokenizer.encode(text).ids
    if len(found) > self._max_tokens:
      found = [*found[: self._max_tokens - 1], found[-1]]
    return found

  def _padded_length(self, ids: Sequence[int]) -> int:
    """The next power of two, within what the tower takes."""
    length = 2 ** math.ceil(math.log2(max(len(ids), _SHORTEST)))
    return min(length, self._max_tokens)

  def _padded(
    self, rows: Sequence[Sequence[int]], *, length: int
  ) -> tuple[Tensor, Tensor]:
    """Ids and where they are no padding, [batch, length]."""
    pad = self._vocabulary.tokens.index('[PAD]')
    filled = [[*row, *[pad] * (length - len(row))] for row in rows]
    tokens = torch.tensor(filled, device=self.device)
    lengths = torch.tensor([len(row) for row in rows], device=self.device)
    mask = torch.arange(length, device=self.device) < lengths[:, None]
    return tokens, mask

  @functools.cached_property
  def _tokenizer(self) -> Any:
    """BERT's (Devlin et al., 2019, section 4.1)."""
    # Here, so that audio and codes need no tokenizers.
    from tokenizers import (
      Tokenizer,
      models,
      normalizers,
      pre_tokenizers,
      processors,
    )

    ids = {token: n for n, token in enumerate(self._vocabulary.tokens)}
    tokenizer = Tokenizer(
      models.WordPiece(ids, unk_token='[UNK]', max_input_chars_per_word=100)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
      clean_text=True,
      handle_chinese_chars=True,
      lowercase=self._vocabulary.lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
      ('[SEP]', ids['[SEP]']), ('[CLS]', ids['[CLS]'])
    )
    return tokenizer


def _in_parts(
  embed: Callable[[Tensor, Tensor], Tensor],
  arrays: tuple[Tensor, Tensor],
  *,
  num_rows: int,
) -> Tensor:
  """`embed` of `num_rows` rows at a time, the last filled with copies."""
  made = []
  for part in zip(*(array.split(num_rows) for array in arrays)):
    missing = num_rows - len(part[0])
    filled = (torch.cat([a, a[:1].expand(missing, -1)]) for a in part)
    made.append(embed(*filled)[: len(part[0])])
  return torch.cat(made)


def _mean_direction(embeddings: Tensor) -> Tensor:
  """The mean of [batch, windows, embed], made a unit vector again."""
  mean = embeddings.mean(dim=-2)
  norm = torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
  return mean / norm.where(norm != 0, 1)  # Opposite windows have no mean.


def _require_audio(waveform: Tensor) -> None:
  if waveform.ndim != 2 or not waveform.numel():
    raise ValueError(
      'A waveform is [batch, samples] with at least one sample, not'
      f' {list(waveform.shape)}.'
    )
  if not waveform.is_floating_point() or not waveform.isfinite().all():
    raise ValueError(
      'A waveform is of finite floats in [-1, 1], not'
      f' {waveform.dtype} with NaN or infinity; divide integers by their full'
      ' scale.'
    )
