# SPDX-License-Identifier: Apache-2.0
"""The real train step, compiled for TPUs that are not here.

libtpu compiles for a topology by its name and says what memory the program
needs. It does so in a process of its own: it wants its settings before JAX is
imported, and a compiler that crashes takes its process with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence

import jax
from flax.core import meta
from jax.experimental import mesh_utils, topologies
from jax.sharding import AxisType

from musiclm_jax.planning import abstract
from musiclm_jax.planning.devices import Topology
from musiclm_jax.planning.plan import Run
from musiclm_jax.training.partitioning import MESH_AXES

# What the environment calls the kinds.
_ACCELERATORS = {'v5e': 'v5litepod', 'v5p': 'v5p', 'v6e': 'v6e'}


def in_subprocess(
  command: Sequence[str], *, topology: Topology
) -> dict[str, int | float]:
  """Runs a command that prints `compile_step`'s figures as its last line.

  Raises:
    ValueError: The compiler refused the program, or crashed.
  """
  if topology.kind not in _ACCELERATORS:
    raise ValueError(
      f'{topology.name} cannot be compiled for ahead of time; only'
      f' {", ".join(_ACCELERATORS)} can, by libtpu.'
    )
  done = subprocess.run(
    command,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'TPU_SKIP_MDS_QUERY': '1',
      'TPU_ACCELERATOR_TYPE': (
        f'{_ACCELERATORS[topology.kind]}-{topology.num_chips}'
      ),
      'TPU_WORKER_HOSTNAMES': 'localhost',
      # It locks the machine's chips, of which none is used.
      'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    },
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    last = (done.stderr.strip().splitlines() or ['nothing was said'])[-1]
    raise ValueError(
      f'Compiling for {topology.name} ended with {done.returncode}: {last}'
    )
  return json.loads(done.stdout.strip().splitlines()[-1])


def compile_step(
  run: Run, *, effort: float | None = None
) -> dict[str, int | float]:
  """Compiles the step of a run and asks for its memory on one device.

  Args:
    run: What is to be trained, and on what.
    effort: Of the compiler, -1 for the least; its memory is then another.
  """
  topology = run.topology
  planned = abstract.on_devices(run.partitioner, num_devices=topology.num_chips)
  described = topologies.get_topology_desc(
    platform='tpu', topology_name=topology.name
  )
  devices = mesh_utils.create_device_mesh(
    tuple(planned.mesh.shape.values()),
    described.devices,
    allow_split_physical_axes=True,
  )
  partitioner = run.partitioner.over(
    jax.sharding.Mesh(
      devices, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES)
    )
  )
  boxed = abstract.boxed_state(run.training, batch=run.batch)
  state = jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    meta.unbox(boxed),
    partitioner.state_shardings(boxed),
  )
  sharding = partitioner.batch_sharding(run.batch_size)
  batch = {
    name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
    for name, array in run.batch.items()
  }
  options = {} if effort is None else {'exec_time_optimization_effort': effort}
  start = time.monotonic()
  compiled = (
    partitioner.partition_step(run.training, state)
    .lower(state, batch)
    .compile(compiler_options=options)
  )
  memory = compiled.memory_analysis()
  return {
    'seconds': time.monotonic() - start,
    'argument_bytes': memory.argument_size_in_bytes,
    'temp_bytes': memory.temp_size_in_bytes,
    'peak_bytes': memory.peak_memory_in_bytes,
  }
