# SPDX-License-Identifier: Apache-2.0
"""Runs a verb as a pod of several processes on this machine.

  python launch/local_pod.py --processes=2 --devices_per_process=4 -- \
    train --gin_file=experiments/codec_tiny.gin

Each process is one host of the pod, with its own virtual CPU devices, and is
told of the others by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID. If one of them fails, the others are ended, and with
--max_restarts all of them are started again, from the last checkpoint.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

# Done, or asked to stop and saved: the others end by themselves.
_ORDERLY = (os.EX_OK, os.EX_TEMPFAIL)

# A process that waits in a collective for a dead one never sees SIGTERM.
_GRACE_SECONDS = 5.0


def run(
  command: Sequence[str],
  *,
  processes: int,
  devices_per_process: int,
  max_restarts: int = 0,
) -> int:
  """Runs `command` in every process of a pod; the exit status of the pod.

  Args:
    command: The program and its arguments.
    processes: Of the pod.
    devices_per_process: Virtual CPU devices of each.
    max_restarts: How often a pod is started again whose status says that this
      may help: that of a process that was stopped, or ended by a signal.
  """
  with _sigterm_is_noted() as sigterms:
    for restart in range(max_restarts + 1):
      pod = _start(command, processes, devices_per_process)
      try:
        status = _wait(pod, sigterms)
      except KeyboardInterrupt:
        # The terminal has sent SIGINT to the processes too.
        for process in pod:
          process.wait()
        raise
      passing = status == os.EX_TEMPFAIL or status >= 128
      if sigterms or not passing or restart == max_restarts:
        return status
      _say(
        f'the pod ended with status {status} and is started again'
        f' ({restart + 1} of {max_restarts}).'
      )


def _start(
  command: Sequence[str], processes: int, devices_per_process: int
) -> list[subprocess.Popen]:
  port = _free_port()
  return [
    subprocess.Popen(
      command, env=_environment(port, index, processes, devices_per_process)
    )
    for index in range(processes)
  ]


def _wait(pod: Sequence[subprocess.Popen], sigterms: Sequence[int]) -> int:
  """Returns the status of the pod, none of whose processes is left."""
  passed_on = False
  while True:
    ended = [process.poll() is not None for process in pod]
    if _failed(pod):
      # What ends others may be seen to end after them.
      time.sleep(0.1)
      failed = _failed(pod)
      for index, status in failed.items():
        _say(f'process {index} of {len(pod)} ended with status {status}.')
      _end(pod)
      # An error of its own has ended those that lost it, and comes again if the
      # pod is started again. Else what was killed has ended them.
      own = [status for status in failed.values() if status < 128]
      return max(own or failed.values())
    if all(ended):
      return max(map(_status, pod))
    if sigterms and not passed_on:
      passed_on = True
      for process in pod:
        process.terminate()
    time.sleep(0.1)


def _failed(pod: Sequence[subprocess.Popen]) -> dict[int, int]:
  """Statuses of the processes that have ended in no orderly way."""
  return {
    index: _status(process)
    for index, process in enumerate(pod)
    if process.poll() not in (None, *_ORDERLY)
  }


def _status(process: subprocess.Popen) -> int:
  """As a shell says it: 128 more than the number of a signal."""
  status = process.returncode
  return status if status >= 0 else 128 - status


def _environment(
  port: int, index: int, processes: int, devices: int
) -> Mapping[str, str]:
  flags = os.environ.get('XLA_FLAGS', '')
  address = f'127.0.0.1:{port}'
  return {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'{flags} --xla_force_host_platform_device_count={devices}',
    'JAX_COORDINATOR_ADDRESS': address,
    # Else the coordinator listens on every interface of the machine.
    'JAX_COORDINATOR_BIND_ADDRESS': address,
    'JAX_NUM_PROCESSES': str(processes),
    'JAX_PROCESS_ID': str(index),
  }


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def _end(pod: Sequence[subprocess.Popen]) -> None:
  """Asks every process to end, and ends those that do not."""
  running = [index for index, p in enumerate(pod) if p.poll() is None]
  if running:
    _say('the others are ended.')
  for index in running:
    pod[index].terminate()
  deadline = time.monotonic() + _GRACE_SECONDS
  for index in running:
    try:
      pod[index].wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
      _say(f'process {index} waits for one that has ended; it is killed.')
      pod[index].kill()
      pod[index].wait()


def _say(message: str) -> None:
  print(f'local_pod: {message}', file=sys.stderr, flush=True)


@contextlib.contextmanager
def _sigterm_is_noted() -> Iterator[list[int]]:
  """A pod that is asked to end lets its processes save first."""
  sigterms = []
  before = signal.signal(
    signal.SIGTERM, lambda number, frame: sigterms.append(number)
  )
  try:
    yield sigterms
  finally:
    signal.signal(signal.SIGTERM, before)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--processes', type=int, required=True)
  parser.add_argument('--devices_per_process', type=int, default=1)
  parser.add_argument(
    '--max_restarts',
    type=int,
    default=0,
    help='how often a pod that lost a process is started again',
  )
  parser.add_argument('verb', help='a verb of musiclm, after `--`')
  parser.add_argument('arguments', nargs=argparse.REMAINDER)
  flags = parser.parse_args()
  if min(flags.processes, flags.devices_per_process) < 1:
    parser.error('--processes and --devices_per_process are at least 1.')
  if flags.max_restarts < 0:
    parser.error('--max_restarts is at least 0.')
  module = f'musiclm_jax.cli.{flags.verb}'
  sys.exit(
    run(
      [sys.executable, '-m', module, *flags.arguments],
      processes=flags.processes,
      devices_per_process=flags.devices_per_process,
      max_restarts=flags.max_restarts,
    )
  )


if __name__ == '__main__':
  main()
