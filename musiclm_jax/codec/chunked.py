# SPDX-License-Identifier: Apache-2.0
"""Runs a causal codec on audio of any length, chunk by chunk.

One program of one chunk's shape serves every length and needs one chunk's
memory; what a chunk needs of those before it travels in an explicit state. So a
caller can stream too: `encode_chunk` and `decode_chunk` are what `encode` and
`decode` repeat.

Shapes: waveform is [batch, samples], codes [batch, frames, levels].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, Int

from musiclm_jax.array_types import Array, Codes, Variables, Waveform
from musiclm_jax.layers import convolution
from musiclm_jax.streams import TokenStream

# One second of SoundStream: the activations of a chunk stay in a CPU's cache,
# and its lowest layers still have enough rows for a matrix product.
CHUNK_FRAMES = 50


class ChunkedCodec:
  """A codec whose module keeps its past in `convolution.HISTORY`.

  Attributes:
    stream: The codes it makes.
    sample_rate_hz: Rate of its waveforms.
    hop_samples: Samples of one frame.
  """

  def __init__(
    self,
    module: nn.Module,
    variables: Variables,
    *,
    stream: TokenStream,
    sample_rate_hz: int,
    hop_samples: int,
    can_encode: bool = True,
  ):
    """Binds the weights.

    Args:
      module: Has causal methods over whole hops: `encode` (waveform to codes),
        `dequantize` (codes of any number of levels to latents, each frame for
        itself) and `synthesize` (latents to waveform).
      variables: Its Linen collections.
      stream: The codes it makes.
      sample_rate_hz: Rate of its waveforms.
      hop_samples: Samples of one frame.
      can_encode: Whether the encoder is among the variables.
    """
    self.stream = stream
    self.sample_rate_hz = sample_rate_hz
    self.hop_samples = hop_samples
    self._can_encode = can_encode
    self._variables = jax.device_put(dict(variables))
    self._encode = _streaming(module, 'encode')
    self._dequantize = _streaming(module, 'dequantize')
    self._synthesize = _streaming(module, 'synthesize')

  def encode(
    self,
    waveform: Array,
    *,
    sample_rate_hz: int,
    num_levels: int | None = None,
  ) -> Int[np.ndarray, 'batch frames levels']:
    """Codes of the first `num_levels` levels, of all if left out.

    Args:
      waveform: [batch, samples] of floats in [-1, 1], checked, since here is
        where arrays come in from outside. The last hop is filled with silence.
      sample_rate_hz: Its rate, which must be the codec's.
      num_levels: How many levels to give back.

    Returns:
      The codes, on the host.
    """
    waveform = self._require_audio(waveform, sample_rate_hz=sample_rate_hz)
    num_levels = self._require_levels(num_levels)
    batch, samples = waveform.shape
    state = self.encoder_state(batch=batch)
    parts = []
    for chunk in _chunks(waveform, CHUNK_FRAMES * self.hop_samples):
      codes, state = self.encode_chunk(chunk, state)
      parts.append(codes)
    num_frames = -(-samples // self.hop_samples)
    return _on_host(parts)[:, :num_frames, :num_levels]

  def decode(
    self, codes: Array, *, num_samples: int | None = None
  ) -> Float[np.ndarray, 'batch samples']:
    """The waveform of codes of any number of levels.

    Args:
      codes: [batch, frames, levels] in [0, codebook_size), checked.
      num_samples: Where to end: at the end of the last frame if left out.

    Returns:
      The waveform, on the host.
    """
    codes = self._require_codes(codes)
    frames = codes.shape[1]
    length = frames * self.hop_samples
    num_samples = length if num_samples is None else num_samples
    if not 0 < num_samples <= length:
      raise ValueError(
        f'{num_samples} samples are wanted of {frames} frames, which hold'
        f' {length}; ask for 1 to {length}.'
      )
    return _on_host(list(self._decoded([codes])))[:, :num_samples]

  def decode_pieces(
    self, pieces: Iterable[Int[Array, 'batch _ levels']]
  ) -> Iterator[Float[np.ndarray, 'batch _']]:
    """The waveform of codes that come piece by piece, of any lengths.

    Args:
      pieces: In order of time, of one batch and number of levels, checked.

    Returns:
      Joined, exactly what `decode` makes of the joined pieces, as soon as the
      codes for whole chunks are there.
    """
    return map(np.asarray, self._decoded(map(self._require_codes, pieces)))

  def _decoded(
    self, pieces: Iterable[Int[Array, 'batch _ levels']]
  ) -> Iterator[Float[Array, 'batch _']]:
    """The waveform of checked pieces, chunk by chunk, not waited for."""
    state, waiting = None, None
    for piece in pieces:
      if state is None:
        state, waiting = self.decoder_state(batch=len(piece)), piece[:, :0]
      waiting = np.concatenate([waiting, piece], axis=1)
      num_whole = waiting.shape[1] // CHUNK_FRAMES * CHUNK_FRAMES
      whole, waiting = np.split(waiting, [num_whole], axis=1)
      for chunk in _chunks(whole, CHUNK_FRAMES):
        waveform, state = self.decode_chunk(chunk, state)
        yield waveform
    if waiting is not None and waiting.size:
      (chunk,) = _chunks(waiting, CHUNK_FRAMES)
      waveform, _ = self.decode_chunk(chunk, state)
      # On the host, where a cut of another length compiles nothing.
      yield np.asarray(waveform)[:, : waiting.shape[1] * self.hop_samples]

  def encoder_state(self, *, batch: int) -> Variables:
    """What `encode_chunk` knows before the first chunk: silence."""
    if not self._can_encode:
      raise ValueError(
        'This copy of the codec has no encoder, so it makes no codes of audio;'
        ' load the codec that it was made of.'
      )
    waveform = np.zeros((batch, self.hop_samples), np.float32)
    return _silence(self._encode, self._variables, waveform)

  def encode_chunk(
    self, waveform: Waveform, state: Variables
  ) -> tuple[Codes, Variables]:
    """Codes of the next whole hops, and the state for those after them."""
    return self._encode(self._variables, state, waveform)

  def decoder_state(self, *, batch: int) -> Variables:
    """What `decode_chunk` knows before the first chunk: silence."""
    codes = np.zeros((batch, 1, 1), np.int32)
    latents, _ = jax.eval_shape(self._dequantize, self._variables, {}, codes)
    return _silence(self._synthesize, self._variables, latents)

  def decode_chunk(
    self, codes: Codes, state: Variables
  ) -> tuple[Waveform, Variables]:
    """The waveform of the next frames, and the state for those after them."""
    # Apart, so that the decoder is compiled once for any number of levels.
    latents, _ = self._dequantize(self._variables, {}, codes)
    return self._synthesize(self._variables, state, latents)

  def _require_audio(
    self, waveform: Any, *, sample_rate_hz: int
  ) -> Float[np.ndarray, 'batch samples']:
    if sample_rate_hz != self.sample_rate_hz:
      raise ValueError(
        f'The codec takes {self.sample_rate_hz} Hz, not {sample_rate_hz} Hz;'
        f' resample to {self.sample_rate_hz} Hz first.'
      )
    waveform = np.asarray(waveform)
    if not jnp.issubdtype(waveform.dtype, jnp.floating):
      raise ValueError(
        f'A waveform is of floats in [-1, 1], not {waveform.dtype}; divide'
        ' integers by their full scale.'
      )
    if waveform.ndim != 2 or not waveform.size:
      raise ValueError(
        f'A waveform is [batch, samples], not {list(waveform.shape)}; add the'
        ' axis of the batch, and at least one sample.'
      )
    if not np.isfinite(waveform).all():
      raise ValueError(
        'The waveform holds samples that are NaN or infinite; repair them.'
      )
    return waveform

  def _require_codes(
    self, codes: Any
  ) -> Int[np.ndarray, 'batch frames levels']:
    codes = np.asarray(codes)
    size = self.stream.codebook_size
    if (
      codes.ndim != 3
      or not codes.size
      or not np.issubdtype(codes.dtype, np.integer)
    ):
      raise ValueError(
        f'Codes are whole numbers [batch, frames, levels], not {codes.dtype}'
        f' {list(codes.shape)}.'
      )
    self._require_levels(codes.shape[-1])
    if codes.min() < 0 or codes.max() >= size:
      raise ValueError(
        f'Codes {codes.min()} to {codes.max()} are not within [0, {size});'
        ' are they tokens of a stage, with its offsets?'
      )
    return codes.astype(np.int32)

  def _require_levels(self, num_levels: int | None) -> int:
    most = self.stream.num_codebooks
    num_levels = most if num_levels is None else num_levels
    if not 1 <= num_levels <= most:
      raise ValueError(
        f'The codec has {most} levels, not {num_levels}; ask for 1 to {most}.'
      )
    return num_levels


def _streaming(module: nn.Module, method: str) -> Callable[..., Any]:
  """(variables, state, inputs) to (outputs, state), compiled."""

  @jax.jit
  def run(
    variables: Variables, state: Variables, inputs: jax.Array
  ) -> tuple[jax.Array, Variables]:
    return module.apply(
      {**variables, **state},
      inputs,
      method=method,
      mutable=[convolution.HISTORY],
    )

  return run


def _silence(
  run: Callable[..., Any], variables: Variables, inputs: Any
) -> Variables:
  """The state of `run` before anything was heard."""
  _, state = jax.eval_shape(run, variables, {}, inputs)
  return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)


def _chunks(array: np.ndarray, length: int) -> Iterator[np.ndarray]:
  """Pieces of `length` along the time axis, the last filled with zeros."""
  for start in range(0, array.shape[1], length):
    chunk = array[:, start : start + length]
    missing = [(0, 0)] * array.ndim
    missing[1] = (0, length - chunk.shape[1])
    yield np.pad(chunk, missing)


def _on_host(parts: list[Array]) -> np.ndarray:
  """The chunks side by side in time."""
  return np.concatenate([np.asarray(part) for part in parts], axis=1)
