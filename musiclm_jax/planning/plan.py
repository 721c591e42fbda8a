# SPDX-License-Identifier: Apache-2.0
"""What a training run costs on a topology, before anything is allocated.

Memory at rest is exact: shapes by `eval_shape`, shards by the run's own rules.
FLOPs are counted in the traced step. Activations, time and communication are
estimates: a step takes as long as the longer of computing and communicating, as
if the two overlapped without a loss.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.planning import (
  abstract,
  communication,
  cost,
  program,
  utilization,
)
from musiclm_jax.planning.devices import Topology
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.training.adversarial import AdversarialTraining
from musiclm_jax.training.partitioning import MESH_AXES, Partitioner
from musiclm_jax.training.state import Trainable

# Of a chip's memory. Ours: fragments, and the error of the estimate.
USABLE_SHARE = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What is to be trained, and on what.

  Attributes:
    training: With its optimizer.
    batch: Of all devices together.
    partitioner: Its rules are kept whatever the mesh.
    num_steps: Of the whole run.
    topology: The chips.
    sample_rate_hz: Of the batch's audio; None of codes.
  """

  training: Trainable
  batch: abstract.AbstractBatch
  partitioner: Partitioner
  num_steps: int
  topology: Topology
  sample_rate_hz: int | None = None

  @property
  def batch_size(self) -> int:
    return next(iter(self.batch.values())).shape[0]

  @property
  def chosen(self) -> Choice:
    """As the configuration says."""
    return Choice(
      fsdp=self.partitioner.fsdp,
      tensor=self.partitioner.tensor,
      remat=abstract.has_remat(self.training),
      num_microbatches=getattr(self.training, 'num_microbatches', 1),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
  """What may be chosen without training another model.

  Attributes:
    fsdp: Devices that split rows and parameters.
    tensor: Devices that split a layer.
    remat: Whether blocks are computed again instead of kept.
    num_microbatches: Parts of a batch, one after another.
  """

  fsdp: int
  tensor: int
  remat: bool
  num_microbatches: int

  def flags(self) -> str:
    """In the words of the gin files."""
    remat = 'True' if self.remat else 'False'
    return (
      f'FSDP={self.fsdp} TENSOR={self.tensor} remat={remat}'
      f' num_microbatches={self.num_microbatches}'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
  """Bytes on one device.

  Attributes:
    parameters: With codebooks and other statistics.
    optimizer: Its state.
    average: The moving average of the parameters.
    batch: The rows of one device.
    gradients: And gathered layers, when the step needs most.
    activations: When the step needs most.
  """

  parameters: int
  optimizer: int
  average: int
  batch: int
  gradients: float
  activations: float

  @property
  def total(self) -> float:
    return sum(getattr(self, f.name) for f in dataclasses.fields(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A run on a mesh.

  Attributes:
    topology: Its name.
    mesh: Devices of each axis.
    choice: What was chosen.
    batch_size: Rows of a step.
    num_parameters: That take gradients.
    tokens_per_step: Positions of a stage's rows; None of audio.
    audio_seconds_per_step: That a batch stands for.
    flops_per_step: Useful ones, of all devices; what is computed again to save
      memory does not count.
    memory: Of one device.
    capacity: Bytes of one device.
    compute_seconds: Of a step.
    sent_bytes: By one device in a step, by mesh axis.
    communication_seconds: Of a step.
    mfu: Share of the peak rate that useful FLOPs take.
    num_steps: Of the run.
    safe_share: Of the capacity; what takes less fits though its estimate be low.
  """

  topology: str
  mesh: Mapping[str, int]
  choice: Choice
  batch_size: int
  num_parameters: int
  tokens_per_step: int | None
  audio_seconds_per_step: float
  flops_per_step: float
  memory: Memory
  capacity: float
  compute_seconds: float
  sent_bytes: Mapping[str, float]
  communication_seconds: float
  mfu: float
  num_steps: int
  safe_share: float

  @property
  def fits(self) -> bool:
    return self.memory.total <= USABLE_SHARE * self.capacity

  @property
  def is_safe(self) -> bool:
    """Whether it fits though the estimate be low."""
    return self.memory.total <= self.safe_share * self.capacity

  @property
  def step_seconds(self) -> float:
    return max(self.compute_seconds, self.communication_seconds)

  @property
  def days(self) -> float:
    return self.num_steps * self.step_seconds / 86400

  @property
  def chip_hours(self) -> float:
    return 24 * self.days * Topology.parse(self.topology).num_chips

  def to_json(self) -> dict[str, Any]:
    return {
      **dataclasses.asdict(self),
      'memory_total': self.memory.total,
      'fits': self.fits,
      'step_seconds': self.step_seconds,
      'days': self.days,
      'chip_hours': self.chip_hours,
    }


def safe_share(training: Trainable) -> float:
  """Of a chip: a plan that takes less fits.

  Ours. The compiler's peak was up to a fifth above a plan, of few compiled; that
  of a codec, whose channels are fewer than the columns of a TPU's tile, six times.
  """
  return 0.125 if isinstance(training, AdversarialTraining) else 0.5


class Planner:
  """Evaluates choices for one run; a step is traced once for several."""

  def __init__(self, run: Run):
    self.run = run
    self._regions: dict[tuple[bool, int], program.Region] = {}

  def plan(
    self, choice: Choice | None = None, *, topology: Topology | None = None
  ) -> Plan:
    """The plan of a choice, or of what the configuration says.

    Args:
      choice: The configuration's if left out.
      topology: The run's if left out.

    Raises:
      ValueError: The mesh does not make up the topology, or the batch does not
        divide over it.
    """
    run, choice = self.run, choice or self.run.chosen
    topology = topology or run.topology
    partitioner = abstract.on_devices(
      dataclasses.replace(
        run.partitioner, fsdp=choice.fsdp, tensor=choice.tensor
      ),
      num_devices=topology.num_chips,
    )
    num_rows = run.batch_size // choice.num_microbatches
    partitioner.batch_sharding(num_rows)
    params = self._state.params
    shardings = partitioner.state_shardings(self._boxed).params
    split = program.Split(
      num_rows=num_rows,
      row_parts=topology.num_chips // choice.tensor,
      tensor=choice.tensor,
      stored_share=abstract.local_bytes(params, shardings)
      / abstract.num_bytes(params),
    )
    region = self._region(choice.remat, choice.num_microbatches)
    compute = cost.seconds(region, split, topology.chip)
    sent = communication.sent_bytes(
      params,
      shardings,
      num_microbatches=choice.num_microbatches,
      summed_bytes=cost.summed_bytes(region, split),
    )
    communicate = communication.seconds(
      sent, mesh=partitioner.mesh.shape, topology=topology
    )
    peak_rate = topology.num_chips * topology.chip.flops_per_second
    return Plan(
      topology=topology.name,
      mesh={axis: partitioner.mesh.shape[axis] for axis in MESH_AXES},
      choice=choice,
      batch_size=run.batch_size,
      num_parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
      **_content(run),
      flops_per_step=self.useful_flops,
      memory=self._memory(partitioner, cost.peak(region, split)),
      capacity=topology.chip.memory_bytes,
      compute_seconds=compute,
      sent_bytes=sent,
      communication_seconds=communicate,
      mfu=self.useful_flops / peak_rate / max(compute, communicate),
      num_steps=run.num_steps,
      safe_share=safe_share(run.training),
    )

  @functools.cached_property
  def useful_flops(self) -> float:
    """Of one step of all devices, nothing computed twice."""
    split = program.Split(num_rows=self.run.batch_size)
    return cost.flops(self._region(False, 1), split)

  @functools.cached_property
  def _boxed(self) -> Any:
    return abstract.boxed_state(self.run.training, batch=self.run.batch)

  @functools.cached_property
  def _state(self) -> Any:
    return meta.unbox(self._boxed)

  def _region(self, remat: bool, num_microbatches: int) -> program.Region:
    key = remat, num_microbatches
    if key not in self._regions:
      self._regions[key] = utilization.traced_step(
        self.run.training,
        self.run.batch,
        remat=remat,
        num_microbatches=num_microbatches,
        wide=self._wide,
        stored={leaf.size for leaf in jax.tree.leaves(self._state.params)},
      )
    return self._regions[key]

  @functools.cached_property
  def _wide(self) -> frozenset[int]:
    """Sizes that the tensor axis splits in parameters, and no other axis has."""
    split, whole = set(), set()
    named = jax.tree.leaves(
      nn.get_partition_spec(self._boxed.params),
      is_leaf=lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec),
    )
    rules = dict(self.run.partitioner.rules)
    for leaf, names in zip(jax.tree.leaves(self._state.params), named):
      for size, name in zip(leaf.shape, names):
        (split if rules.get(name) == 'tensor' else whole).add(size)
    return frozenset(split - whole)

  def _memory(self, partitioner: Partitioner, peak: cost.Peak) -> Memory:
    state = self._state
    shardings = partitioner.state_shardings(self._boxed)
    local = abstract.local_bytes
    parts = partitioner.mesh.shape
    return Memory(
      parameters=local(state.params, shardings.params)
      + local(state.collections, shardings.collections),
      optimizer=local(state.opt_state, shardings.opt_state),
      average=local(state.averaged, shardings.averaged),
      batch=abstract.num_bytes(self.run.batch)
      // (parts['data'] * parts['fsdp']),
      gradients=peak.others,
      activations=peak.rows,
    )


def _content(run: Run) -> dict[str, Any]:
  """Tokens and seconds of music in a batch."""
  objective = run.training.objective
  if isinstance(objective, StageObjective):
    model = objective.model
    return {
      'tokens_per_step': run.batch_size * model.layout.length,
      'audio_seconds_per_step': run.batch_size
      * float(model.spec.window_seconds),
    }
  samples = run.batch[batches.WAVEFORM].shape[1]
  return {
    'tokens_per_step': None,
    'audio_seconds_per_step': run.batch_size * samples / run.sample_rate_hz,
  }
