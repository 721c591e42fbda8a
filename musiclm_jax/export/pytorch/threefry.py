# SPDX-License-Identifier: Apache-2.0
"""JAX's random numbers: the same seed draws the same here and there.

Threefry-2x32 with 20 rounds: Salmon et al., "Parallel Random Numbers: As Easy
as 1, 2, 3" (2011), section 3.3. What JAX makes of it is followed bit by bit:
keys of seeds, `fold_in`, bits by a counter (its default setting,
`jax_threefry_partitionable`), uniform numbers from their upper 23 bits.

PyTorch has no unsigned arithmetic, so words of 32 bits are kept in int64.

Shapes: keys [..., 2]; a row's draws depend on its own key alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def keys_of(seeds: Tensor) -> Tensor:
  """`jax.random.key` of each seed within [0, 2**32): [...] to [..., 2]."""
  seeds = seeds.long()
  return torch.stack([torch.zeros_like(seeds), seeds & _WORD], dim=-1)


def fold_in(keys: Tensor, data: Tensor) -> Tensor:
  """`jax.random.fold_in` of keys [..., 2] and numbers [...]; they broadcast."""
  data = data.long() & _WORD
  return torch.stack(_threefry(keys, torch.zeros_like(data), data), dim=-1)


def bits(keys: Tensor, num_draws: int) -> Tensor:
  """`jax.random.bits` of each key: [..., 2] to [..., num_draws]."""
  counters = torch.arange(num_draws, device=keys.device)
  first, second = _threefry(
    keys[..., None, :], torch.zeros_like(counters), counters
  )
  return first ^ second


def uniform(keys: Tensor, num_draws: int) -> Tensor:
  """`jax.random.uniform` from float32's least normal number on, below 1."""
  tiny = torch.finfo(torch.float32).tiny
  # In JAX the bits are those of a number in [1, 2), less 1: the same floats.
  share = (bits(keys, num_draws) >> 9).float() * 2.0**-23
  return (share + tiny).clamp_min(tiny)


def gumbel(keys: Tensor, num_draws: int) -> Tensor:
  """`jax.random.gumbel`, up to the last bit of a logarithm."""
  return -torch.log(-torch.log(uniform(keys, num_draws)))


def categorical(keys: Tensor, logits: Tensor) -> Tensor:
  """`jax.random.categorical`: an index for each row of [..., codes]."""
  return (gumbel(keys, logits.shape[-1]) + logits).argmax(dim=-1)


def _threefry(
  keys: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor]:
  """Both words of the block cipher; everything broadcasts."""
  start, then = keys[..., 0], keys[..., 1]
  schedule = (start, then, start ^ then ^ _PARITY)
  first = (first + start) & _WORD
  second = (second + then) & _WORD
  for group in range(5):
    for rotation in _ROTATIONS[group % 2]:
      first = (first + second) & _WORD
      second = (second << rotation | second >> 32 - rotation) & _WORD
      second = second ^ first
    first = (first + schedule[(group + 1) % 3]) & _WORD
    second = (second + schedule[(group + 2) % 3] + group + 1) & _WORD
  return first, second
