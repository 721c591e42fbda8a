# SPDX-License-Identifier: Apache-2.0
"""The pod that this process is one of, as its launcher's environment says.

Every verb that computes in a pod calls `join` before anything else of JAX.
"""

from __future__ import annotations

import os
import re
import signal
import sys

import absl.logging

from musiclm_jax.cli import flags

_ADDRESS = 'JAX_COORDINATOR_ADDRESS'
_COUNT = 'JAX_NUM_PROCESSES'
_INDEX = 'JAX_PROCESS_ID'

# As if by SIGABRT: so JAX itself ends a process whose pod has lost another.
EXIT_LOST = 128 + signal.SIGABRT

# Of errors of JAX: what says that others are gone, and not that this one is wrong.
_LOST = re.compile(
  '^(ABORTED|CANCELLED|DEADLINE_EXCEEDED|UNAVAILABLE)'
  '|Gloo context initialization failed'
  '|(Gloo|NCCL).*(closed by peer|pair closure|not connected|broken pipe'
  '|connection (reset|refused|closed)|timed? ?out|remote process exited'
  '|heartbeat)',
  re.IGNORECASE | re.DOTALL,
)

_place: tuple[int, int] | None = None


def join() -> None:
  """Joins the processes that were started beside this one, if there are any.

  The first of these that the environment has:

  - JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID: what a local pod and GKE are given, and anything else can.
  - A step of Slurm with several tasks. Where each node has one task, it drives
    all GPUs of the node; else each task drives the one of its local number.
  - TPUs: GKE says in variables, and Cloud TPU in metadata, which host this is.
    JAX_COORDINATOR_ADDRESS may say which is the first.

  Raises:
    UsageError: The environment says half of it, or contradicts itself.
  """
  import jax

  missing = [n for n in (_ADDRESS, _COUNT, _INDEX) if n not in os.environ]
  if not missing:
    _join_named()
  elif int(os.environ.get('SLURM_STEP_NUM_TASKS', 1)) > 1:
    _join_slurm()
  # JAX puts it there itself on a TPU host.
  elif (jax.config.jax_platforms or '').startswith('tpu'):
    _join_tpu()
  elif len(missing) < 3:
    raise flags.UsageError(
      f'{_ADDRESS}, {_COUNT} and {_INDEX} say together which pod this process'
      f' is of; {" and ".join(missing)} is not set.'
    )
  if is_joined():
    global _place
    _place = jax.process_index(), jax.process_count()
    if _place[0] > 0:
      # The first one speaks for all.
      absl.logging.set_verbosity(absl.logging.WARNING)


def is_joined() -> bool:
  """Whether this process has to do with others."""
  # By name: a verb that needs no JAX is not to wait for its import.
  jax = sys.modules.get('jax')
  return jax is not None and jax.distributed.is_initialized()


def name_of_process() -> str:
  """' (process 1 of 4)' in a pod, and nothing elsewhere."""
  # From memory: where a pod has failed JAX may not answer.
  return '' if _place is None else ' (process {} of {})'.format(*_place)


def has_lost_another(error: BaseException | None) -> bool:
  """Whether this is how the end of another process looks from here."""
  while is_joined() and error is not None:
    # By name, not to import JAX.
    if type(error).__name__ == 'JaxRuntimeError' and _LOST.search(str(error)):
      return True
    error = error.__cause__
  return False


def _join_named() -> None:
  import jax

  count, index = _whole_number(_COUNT), _whole_number(_INDEX)
  if index >= count:
    raise flags.UsageError(
      f'{_INDEX} is {index}, but the processes of a pod of {count} are'
      ' counted from 0.'
    )
  jax.distributed.initialize(
    num_processes=count,
    process_id=index,
    # Else Slurm or Kubernetes around it would be asked what is left.
    cluster_detection_method='deactivate',
  )
  found = jax.process_index(), jax.process_count()
  if found != (index, count):
    raise flags.UsageError(
      f'{_INDEX} of {_COUNT} are {index} of {count}, but the TPU calls this'
      f' host {found[0]} of {found[1]}; number the processes as it does.'
    )


def _join_slurm() -> None:
  import jax

  tasks, nodes = (
    os.environ.get(f'SLURM_STEP_NUM_{of}') for of in ('TASKS', 'NODES')
  )
  jax.distributed.initialize(
    num_processes=int(tasks),
    # Left out, JAX takes one GPU, whose number is the task's on its node.
    local_device_ids=[] if tasks == nodes else None,
  )


def _join_tpu() -> None:
  import jax

  try:
    jax.distributed.initialize()
  except ValueError as error:
    # JAX finds no pod around this host. libtpu knows better where there is one.
    if jax.process_count() > 1:
      raise flags.UsageError(
        f'this TPU has {jax.process_count()} hosts, but JAX does not find the'
        f' first of them ({error}); give {_ADDRESS}, {_COUNT} and {_INDEX}.'
      ) from error


def _whole_number(name: str) -> int:
  text = os.environ[name]
  if not text.isdecimal():
    raise flags.UsageError(f'{name} is a whole number, not {text!r}.')
  return int(text)
