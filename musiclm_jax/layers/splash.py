# SPDX-License-Identifier: Apache-2.0
"""Causal attention by JAX's splash kernel: scores never leave a TPU's chip.

Dao et al., "FlashAttention" (2022), in blocks that the causal mask leaves. The
kernel adds no bias to the scores, so positions must be rotary. A mesh that is
entered by `jax.set_mesh` splits it over rows and heads. The compiler splits no
kernel: under the older `with mesh:`, or none, JAX refuses several TPUs.

Shapes: batch, length = queries and keys, heads, kv = width of one head.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.experimental.pallas.ops.tpu import splash_attention
from jaxtyping import Array, Bool, Float

from musiclm_jax import axes

# Rows of 768, 2304 and 2048 for the paper's three stages; not timed on a TPU.
_BLOCK = 256


def attend(
  query: Float[Array, 'batch length heads kv'],
  key: Float[Array, 'batch length heads kv'],
  value: Float[Array, 'batch length heads kv'],
  *,
  valid_mask: Bool[Array, 'batch length'],
  interpret: bool = False,
) -> Float[Array, 'batch length heads kv']:
  """As `attention.attend` with a causal mask and no bias.

  Args:
    query: Of each position.
    key: Likewise.
    value: Likewise.
    valid_mask: False where a key is padding; the first of a row is not.
    interpret: Whether it runs anywhere, and slowly, for tests.
  """
  length, (num_heads, head_dim) = query.shape[1], query.shape[2:]
  padding = -length % _BLOCK
  room = ((0, 0), (0, padding), (0, 0), (0, 0))
  projected = [
    # [batch, heads, padded, kv]; what is added lies behind every query.
    jnp.pad(heads, room).swapaxes(1, 2)
    for heads in (query * head_dim**-0.5, key, value)
  ]
  valid_mask = jnp.pad(valid_mask, room[:2])
  run = _on_mesh(
    lambda *local: _local(*local, interpret=interpret), num_heads=num_heads
  )
  return run(*projected, valid_mask).swapaxes(1, 2)[:, :length]


def _local(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  valid_mask: jax.Array,
  *,
  interpret: bool,
) -> Float[Array, 'batch heads padded kv']:
  """The rows and heads of one device."""
  _, num_heads, length, _ = query.shape
  sizes = dict.fromkeys(
    (
      'block_q',
      'block_kv',
      'block_kv_compute',
      'block_q_dkv',
      'block_kv_dkv',
      'block_kv_dkv_compute',
      'block_q_dq',
      'block_kv_dq',
    ),
    _BLOCK,
  )
  causal = splash_attention.CausalMask((length, length))
  kernel = splash_attention.make_splash_mha(
    mask=splash_attention.MultiHeadMask([causal] * num_heads),
    block_sizes=splash_attention.BlockSizes(**sizes),
    head_shards=1,
    q_seq_shards=1,
    interpret=interpret,
  )

  def row(q: Any, k: Any, v: Any, valid: Any) -> jax.Array:
    # A query sees the keys of its own segment: all are of 1, padding of 0.
    ids = splash_attention.SegmentIds(
      q=jnp.ones(length, jnp.int32), kv=valid.astype(jnp.int32)
    )
    return kernel(q, k, v, segment_ids=ids)

  return jax.vmap(row)(query, key, value, valid_mask)


def _on_mesh(run: Any, *, num_heads: int) -> Any:
  """`run` on each device's rows and heads, if there is a mesh."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return run
  if axes.BATCH not in dict(nn.get_logical_axis_rules()):
    raise ValueError(
      f'A mesh of {mesh.size} devices is entered without a rule for'
      f' {axes.BATCH!r}, so each would attend every row; enter its rules too,'
      ' by `nn.logical_axis_rules`.'
    )
  of_heads = nn.logical_to_mesh_axes((axes.BATCH, axes.HEADS, None, None))
  of_mask = nn.logical_to_mesh_axes((axes.BATCH, None))
  # None, one axis of the mesh, or several.
  split = of_heads[1] or ()
  split = (split,) if isinstance(split, str) else split
  num_parts = math.prod(mesh.shape[axis] for axis in split)
  if num_heads % num_parts:
    raise ValueError(
      f'{num_heads} heads are split over {num_parts} devices (mesh axes'
      f' {", ".join(split)}), and the splash kernel wants as many on each;'
      ' change the mesh or the number of heads.'
    )
  return jax.shard_map(
    run,
    in_specs=(of_heads, of_heads, of_heads, of_mask),
    out_specs=of_heads,
    check_vma=False,
  )
