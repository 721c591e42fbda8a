# SPDX-License-Identifier: Apache-2.0
"""Two processes of four devices do what one of eight does."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from musiclm_jax.training import metrics_writer
from musiclm_jax.training.preemption import EXIT_STOPPED

ROOT = pathlib.Path(__file__).parents[2]

RUN = """
import os, signal, sys
from musiclm_jax.cli import pod
pod.join()
import jax, numpy as np
jax.config.update('jax_enable_x64', True)
from musiclm_jax.training import adversarial, hooks, loop, optimizers
from musiclm_jax.training.partitioning import Partitioner
from tests.training import toys

model_dir, shape, stop_after = sys.argv[1:]

class Stop:
  # The machine of one process is to be taken away; only it is told.
  def due(self, run):
    return run.step == int(stop_after)
  def __call__(self, run):
    if jax.process_index() == jax.process_count() - 1:
      os.kill(os.getpid(), signal.SIGTERM)

data, fsdp, tensor = map(int, shape.split('x'))
partitioner = Partitioner(data=data, fsdp=fsdp, tensor=tensor)
os.makedirs(model_dir, exist_ok=True)
# Not printed: Gloo writes to stdout too.
with open(f'{model_dir}/rows_{jax.process_index()}', 'w') as file:
  file.write(str(partitioner.process_rows(toys.BATCH)))
loop.train(
  model_dir=model_dir,
  training=adversarial.AdversarialTraining(
    objective=toys.Game(noise=0.1),
    generator_optimizer=optimizers.adam(learning_rate=0.01),
    discriminator_optimizer=optimizers.adam(learning_rate=0.01),
    ema_decay=0.9,
  ),
  batches=toys.Noise(dtype=np.float64),
  num_steps=20,
  save_every_steps=1000,
  log_every_steps=1,
  partitioner=partitioner,
  hooks=[
    hooks.Evaluate(
      toys.Noise(dtype=np.float64, seed=1), every_steps=10, num_batches=2
    ),
    Stop(),
    hooks.Publish(),
  ],
)
"""

POD = """
import sys
sys.path.insert(0, 'launch')
import local_pod
processes = int(sys.argv[1])
sys.exit(local_pod.run(
  [sys.executable, '-c', *sys.argv[2:]],
  processes=processes,
  devices_per_process=8 // processes,
))
"""


def run(model_dir, *, processes, shape, stop_after=0):
  """The exit status, and which rows each process read."""
  arguments = [str(processes), RUN, str(model_dir), shape, str(stop_after)]
  environment = os.environ | {
    'PYTHONPATH': str(ROOT),
    'XLA_FLAGS': '--xla_cpu_collective_call_terminate_timeout_seconds=600',
  }
  done = subprocess.run(
    [sys.executable, '-c', POD, *arguments],
    env=environment,
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=400,
  )
  print(done.stderr)
  rows = [path.read_text() for path in sorted(model_dir.glob('rows_*'))]
  return done.returncode, rows


def figures(model_dir):
  """[(step, name)], and their values."""
  path = model_dir / 'metrics' / metrics_writer.FILE_NAME
  found = {
    (line['step'], name): value
    for line in metrics_writer.read(path)
    for name, value in line.items()
    if name.startswith(('train/', 'evaluate/'))
  }
  return sorted(found), [found[key] for key in sorted(found)]


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path):
  alone, _ = run(tmp_path / 'alone', processes=1, shape='2x2x2')
  together, rows = run(tmp_path / 'together', processes=2, shape='2x2x2')
  assert (alone, together) == (0, 0)
  assert rows == ['(0, 2)', '(1, 2)']
  names, wanted = figures(tmp_path / 'alone')
  assert (20, 'evaluate/toy/error') in names
  got_names, got = figures(tmp_path / 'together')
  assert got_names == names
  np.testing.assert_allclose(got, wanted, rtol=1e-9)

  # A tensor axis across processes: both read every row.
  status, rows = run(tmp_path / 'tensor', processes=2, shape='1x1x8')
  assert (status, rows) == (0, ['(0, 1)', '(0, 1)'])
  np.testing.assert_allclose(figures(tmp_path / 'tensor')[1], wanted, rtol=1e-9)


@pytest.mark.slow
def test_signal_to_one_process_stops_both_and_one_alone_goes_on(tmp_path):
  status, _ = run(tmp_path, processes=2, shape='2x2x2', stop_after=5)
  assert status == EXIT_STOPPED
  (saved,) = [int(p.name) for p in (tmp_path / 'checkpoints').iterdir()]
  assert 5 < saved < 20
  status, _ = run(tmp_path, processes=1, shape='2x2x2')
  assert status == 0
  assert run(tmp_path / 'whole', processes=1, shape='2x2x2')[0] == 0
  names, wanted = figures(tmp_path / 'whole')
  got_names, got = figures(tmp_path)
  assert got_names == names
  np.testing.assert_allclose(got, wanted, rtol=1e-9)
