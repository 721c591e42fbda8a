# SPDX-License-Identifier: Apache-2.0
"""Every trainer, in pods of other sizes and meshes, trains as one process does.

Four processes of two devices train two steps; one process with one device ends
the run. Between them, for one of the trainers, two processes go on that split the
parameters over all devices. Each is `musiclm train` itself.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from musiclm_jax.checkpoints import bundle
from tests.data import token_toys

ROOT = pathlib.Path(__file__).parents[2]

TRAINERS = (
  'codec',
  'w2v_bert',
  'mulan',
  'semantic_stage',
  'coarse_stage',
  'fine_stage',
)
NUM_STEPS = 4


@pytest.fixture(scope='module')
def corpora(tmp_path_factory):
  """A corpus of sines, and one of tokens that count."""
  folder = tmp_path_factory.mktemp('corpora')
  token_toys.write(folder, num_clips=23)
  return folder


def train(trainer, corpora, model_dir, *, num_steps, processes, fsdp=1):
  """Runs `musiclm train`, on two devices a process or on one in all."""
  corpus = ('TOKENS', 'tokens') if 'stage' in trainer else ('CORPUS', 'audio')
  launcher = ['launch/local_pod.py', f'--processes={processes}']
  if processes == 1:
    command = ['-m', 'musiclm_jax.cli.train']
  else:
    command = [*launcher, '--devices_per_process=2', '--', 'train']
  done = subprocess.run(
    [sys.executable, *command]
    + [f'--gin_file={trainer}.gin', '--gin_search_paths=tests/launch/tiny']
    + [f"--gin.{corpus[0]}='{corpora / corpus[1]}'"]
    + [f"--gin.MODEL_DIR='{model_dir}'", f'--gin.NUM_STEPS={num_steps}']
    + [f'--gin.FSDP={fsdp}'],
    cwd=ROOT,
    env=os.environ
    | {
      'PYTHONPATH': str(ROOT),
      # Half the time of a test like this is LLVM's.
      'XLA_FLAGS': '--xla_backend_optimization_level=0'
      ' --xla_cpu_collective_call_terminate_timeout_seconds=600',
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    },
    capture_output=True,
    text=True,
    timeout=1200,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  # The first process speaks for all.
  assert done.stderr.count(f'step {num_steps}/{num_steps} ') == 1
  assert done.stderr.count('Published') == 1
  return done.stderr


def figures(model_dir):
  """{(step, name): value} of losses and held-out figures, each once."""
  found = {}
  text = (model_dir / 'metrics' / 'metrics.jsonl').read_text()
  for line in map(json.loads, text.splitlines()):
    for name, value in line.items():
      if name.startswith(('train/', 'evaluate/')):
        assert (line['step'], name) not in found
        found[line['step'], name] = value
  return found


@pytest.mark.slow
@pytest.mark.parametrize('trainer', TRAINERS)
def test_pods_of_other_sizes_train_as_one_process_does(
  trainer, corpora, tmp_path
):
  alone, pods = tmp_path / 'alone', tmp_path / 'pods'
  train(trainer, corpora, alone, num_steps=NUM_STEPS, processes=1)
  said = train(trainer, corpora, pods, num_steps=2, processes=4, fsdp=2)
  assert 'parameters on 8 devices' in said
  done = [2]
  if trainer == 'coarse_stage':
    said = train(trainer, corpora, pods, num_steps=3, processes=2, fsdp=4)
    assert 'Restored step 2' in said
    assert 'parameters on 4 devices' in said
    done.append(3)
  said = train(trainer, corpora, pods, num_steps=NUM_STEPS, processes=1)
  assert f'Restored step {done[-1]}' in said

  wanted, got = figures(alone), figures(pods)
  assert {(1, 'train/loss'), (4, 'train/loss')} <= wanted.keys()
  assert any(name.startswith('evaluate/') for _, name in wanted)
  assert wanted.keys() <= got.keys()  # A part that ends is evaluated too.
  assert len({wanted[n, 'train/loss'] for n in range(1, NUM_STEPS + 1)}) == 4
  # In float32, in which eight devices add up in another order than one.
  for key, value in wanted.items():
    assert got[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
  # One writer of events a run, however many processes it has.
  events = list((pods / 'metrics').glob('events.out.tfevents.*'))
  assert len(events) == len(done) + 1
  # Weights are not compared: Adam makes a step of a gradient that is rounding.
  assert bundle.load(pods).config == bundle.load(alone).config
