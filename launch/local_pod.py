# SPDX-License-Identifier: Apache-2.0
"""Runs a verb as a pod of several processes on this machine.

  python launch/local_pod.py --processes=2 --devices_per_process=4 -- \
    train --gin_file=experiments/codec_tiny.gin

Each process is one host of the pod, with its own virtual CPU devices, and is
told of the others by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID. If one of them fails, the others are ended.
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
_GRACE_SECONDS = 10.0


def run(
  command: Sequence[str], *, processes: int, devices_per_process: int
) -> int:
  """Runs `command` in every process of a pod; the exit status of the pod."""
  port = _free_port()
  pod = [
    subprocess.Popen(
      command, env=_environment(port, index, processes, devices_per_process)
    )
    for index in range(processes)
  ]
  with _sigterm_goes_to(pod):
    while any(process.poll() is None for process in pod):
      for index, process in enumerate(pod):
        if process.poll() not in (None, *_ORDERLY):
          print(
            f'local_pod: process {index} of {processes} ended with status'
            f' {process.returncode}; the others are ended.',
            file=sys.stderr,
          )
          _end(pod)
          return abs(process.returncode)
      time.sleep(0.1)
  return max(abs(process.returncode) for process in pod)


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
  for process in pod:
    process.terminate()
  deadline = time.monotonic() + _GRACE_SECONDS
  for process in pod:
    try:
      process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


@contextlib.contextmanager
def _sigterm_goes_to(pod: Sequence[subprocess.Popen]) -> Iterator[None]:
  """A pod that is asked to end lets its processes save first."""

  def pass_on(*_: object) -> None:
    for process in pod:
      process.terminate()

  before = signal.signal(signal.SIGTERM, pass_on)
  try:
    yield
  except KeyboardInterrupt:
    # The terminal has sent SIGINT to the processes too.
    for process in pod:
      process.wait()
    raise
  finally:
    signal.signal(signal.SIGTERM, before)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--processes', type=int, required=True)
  parser.add_argument('--devices_per_process', type=int, default=1)
  parser.add_argument('verb', help='a verb of musiclm, after `--`')
  parser.add_argument('arguments', nargs=argparse.REMAINDER)
  flags = parser.parse_args()
  if min(flags.processes, flags.devices_per_process) < 1:
    parser.error('--processes and --devices_per_process are at least 1.')
  module = f'musiclm_jax.cli.{flags.verb}'
  sys.exit(
    run(
      [sys.executable, '-m', module, *flags.arguments],
      processes=flags.processes,
      devices_per_process=flags.devices_per_process,
    )
  )


if __name__ == '__main__':
  main()
