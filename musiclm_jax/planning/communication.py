# SPDX-License-Identifier: Apache-2.0
"""What a device sends in a step, by mesh axis.

fsdp gathers a parameter where it is used, forward and backward, and scatters its
gradient's sum, in every microbatch. data sums the gradients' shards once. tensor
sums what products leave apart. In a ring of n, gathering or scattering sends
(n - 1) / n of the whole, a sum twice that. Parameters travel as they are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from musiclm_jax.planning.devices import Topology


def sent_bytes(
  params: Any,
  shardings: Any,
  *,
  num_microbatches: int,
  summed_bytes: float,
) -> dict[str, float]:
  """Bytes that a device sends along each mesh axis.

  Args:
    params: Abstract.
    shardings: Of each.
    num_microbatches: Of a step.
    summed_bytes: Of products that are summed over the tensor axis.
  """
  leaves = list(zip(jax.tree.leaves(params), jax.tree.leaves(shardings)))
  mesh = leaves[0][1].mesh.shape
  ring = {axis: (size - 1) / size for axis, size in mesh.items()}
  sent = {'data': 0.0, 'fsdp': 0.0, 'tensor': 2 * ring['tensor'] * summed_bytes}
  for leaf, sharding in leaves:
    shard = np.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    sent['data'] += 2 * ring['data'] * shard
    if 'fsdp' in jax.tree.leaves(tuple(sharding.spec)):
      gathered = shard * mesh['fsdp']
      sent['fsdp'] += 3 * num_microbatches * ring['fsdp'] * gathered
    else:
      sent['fsdp'] += 2 * ring['fsdp'] * shard
  return {axis: float(amount) for axis, amount in sent.items()}


def seconds(
  sent: Mapping[str, float], *, mesh: Mapping[str, int], topology: Topology
) -> float:
  """Of all axes, one after another; tensor is innermost."""
  total, stride = 0.0, 1
  for axis in ('tensor', 'fsdp', 'data'):
    if mesh[axis] > 1:
      total += sent[axis] / topology.send_bytes_per_second(
        axis_size=mesh[axis], stride=stride
      )
    stride *= mesh[axis]
  return total
