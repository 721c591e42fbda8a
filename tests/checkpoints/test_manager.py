# SPDX-License-Identifier: Apache-2.0
"""Checkpoints come back bit for bit, or say in a line why not."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from musiclm_jax.checkpoints import manager
from musiclm_jax.checkpoints.manager import CheckpointManager

POSITION = 17


@flax.struct.dataclass
class State:
  step: jax.Array
  params: dict
  opt_state: optax.OptState
  key: jax.Array
  averaged: dict | None = None


def make_state(seed=0, *, width=5):
  key = jax.random.key(seed)
  params = {
    'kernel': jax.random.normal(key, (3, width)),
    'half': jax.random.normal(key, (7,), jnp.bfloat16),
  }
  return State(
    step=jnp.int32(seed),
    params=params,
    opt_state=optax.adam(0.1).init(params),
    key=key,
  )


def abstract(state, *, sharding=None):
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding or leaf.sharding
    ),
    state,
  )


def assert_equal_bit_for_bit(got, wanted):
  assert jax.tree.structure(got) == jax.tree.structure(wanted)
  for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted)):
    assert one.dtype == other.dtype
    if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
      one, other = jax.random.key_data(one), jax.random.key_data(other)
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def save(directory, *steps, **options):
  with CheckpointManager(directory, **options) as checkpoints:
    for step in steps:
      assert checkpoints.save(step, make_state(step), position=POSITION + step)
  return directory


def data_files(directory, step):
  files = (directory / str(step) / 'state').rglob('d/*')
  return sorted(files, key=lambda path: path.stat().st_size)


def test_the_latest_state_comes_back_bit_for_bit(tmp_path):
  save(tmp_path, 2, 3)
  with CheckpointManager(tmp_path) as checkpoints:
    restored = checkpoints.restore(abstract(make_state()))
  assert (restored.step, restored.position) == (3, POSITION + 3)
  assert_equal_bit_for_bit(restored.state, make_state(3))


def test_an_earlier_step_can_be_asked_for(tmp_path):
  save(tmp_path, 2, 3)
  with CheckpointManager(tmp_path) as checkpoints:
    restored = checkpoints.restore(abstract(make_state()), step=2)
  assert_equal_bit_for_bit(restored.state, make_state(2))


def test_training_may_donate_the_state_while_it_is_written(tmp_path):
  add = jax.jit(lambda x: x + 1, donate_argnums=0)
  state = {'large': jnp.zeros((1009, 1013))}
  with CheckpointManager(tmp_path) as checkpoints:
    checkpoints.save(1, state, position=1)
    shapes = abstract(state)
    for _ in range(5):
      state['large'] = add(state['large'])
    checkpoints.wait()
    restored = checkpoints.restore(shapes)
  assert not restored.state['large'].any()


def test_a_state_is_restored_into_another_sharding(tmp_path):
  mesh = jax.make_mesh(
    (2, 4), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2
  )
  rows = NamedSharding(mesh, PartitionSpec('data'))
  columns = NamedSharding(mesh, PartitionSpec(None, 'fsdp'))
  array = jax.random.normal(jax.random.key(0), (8, 16))
  with CheckpointManager(tmp_path) as checkpoints:
    checkpoints.save(1, {'w': jax.device_put(array, rows)}, position=1)
    checkpoints.wait()
    shapes = abstract({'w': array}, sharding=columns)
    restored = checkpoints.restore(shapes).state['w']
  assert restored.sharding == columns
  np.testing.assert_array_equal(restored, array)


def test_the_latest_ones_stay_and_the_best_with_them(tmp_path):
  losses = {1: 5.0, 2: 1.0, 3: 2.0, 5: 3.0, 7: 4.0}
  options = {'keep': 2, 'best_metric': 'loss'}
  with CheckpointManager(tmp_path, **options) as checkpoints:
    for step, loss in losses.items():
      checkpoints.save(
        step, make_state(step), position=step, metrics={'loss': loss}
      )
    checkpoints.wait()
    assert checkpoints.steps == (2, 5, 7)
    assert checkpoints.best_step == 2
  with CheckpointManager(tmp_path, **options) as checkpoints:
    assert checkpoints.best_step == 2
    assert checkpoints.latest_step == 7
    restored = checkpoints.restore(abstract(make_state()), step=2)
  assert restored.metrics == {'loss': 1.0}


def test_best_may_mean_largest_and_skips_what_was_not_evaluated(tmp_path):
  with CheckpointManager(
    tmp_path, keep=1, best_metric='accuracy', best_mode='max'
  ) as checkpoints:
    for step, value in [(1, 0.25), (2, 0.75), (3, float('nan'))]:
      checkpoints.save(
        step, make_state(), position=step, metrics={'accuracy': value}
      )
    checkpoints.save(5, make_state(), position=5)
    checkpoints.wait()
    assert checkpoints.best_step == 2
    assert checkpoints.steps == (2, 5)


def test_a_metric_that_is_not_there_is_named(tmp_path):
  with CheckpointManager(tmp_path, best_metric='mel') as checkpoints:
    with pytest.raises(ValueError, match=r"'mel'.*\['loss'\]"):
      checkpoints.save(1, make_state(), position=1, metrics={'loss': 1.0})


def test_a_step_that_is_on_disk_is_not_saved_again(tmp_path):
  save(tmp_path, 3)
  with CheckpointManager(tmp_path) as checkpoints:
    assert not checkpoints.save(3, make_state(5), position=1)
    restored = checkpoints.restore(abstract(make_state()))
  assert_equal_bit_for_bit(restored.state, make_state(3))


@pytest.mark.parametrize('leftover', ['9', '9.orbax-checkpoint-tmp-123'])
def test_a_half_written_folder_is_never_picked_up(tmp_path, leftover):
  save(tmp_path, 3)
  # All that a complete one has but the commit marker, which comes last.
  for path in (tmp_path / '3').rglob('*'):
    if path.is_file() and path.name != 'commit_success.txt':
      copy = tmp_path / leftover / path.relative_to(tmp_path / '3')
      copy.parent.mkdir(parents=True, exist_ok=True)
      copy.write_bytes(path.read_bytes())
  with CheckpointManager(tmp_path) as checkpoints:
    assert checkpoints.latest_step == 3
    assert checkpoints.save(9, make_state(9), position=9)
    checkpoints.wait()
    restored = checkpoints.restore(abstract(make_state()))
  assert_equal_bit_for_bit(restored.state, make_state(9))


def test_an_empty_step_folder_is_never_picked_up(tmp_path):
  (tmp_path / '5').mkdir()
  # Orbax alone would take it, so this guard is needed.
  assert list(ocp.CheckpointManager(tmp_path).all_steps()) == [5]
  with CheckpointManager(tmp_path) as checkpoints:
    assert checkpoints.latest_step is None


def test_a_flipped_bit_is_noticed_and_the_leaf_named(tmp_path):
  state = {'w': jax.random.normal(jax.random.key(0), (127, 131))}
  with CheckpointManager(tmp_path) as checkpoints:
    for step in (3, 5):
      checkpoints.save(step, state, position=step)
  path = data_files(tmp_path, 5)[-1]
  data = bytearray(path.read_bytes())
  assert len(data) > 0.8 * state['w'].nbytes
  data[len(data) // 2] ^= 1  # In the data, where no format looks.
  path.write_bytes(data)
  with CheckpointManager(tmp_path) as checkpoints:
    with pytest.raises(ValueError, match='the data of w is damaged') as caught:
      checkpoints.restore(abstract(state))
    assert '\n' not in str(caught.value)
    assert 'there are [3]' in str(caught.value)
    restored = checkpoints.restore(abstract(state), step=3)
  assert_equal_bit_for_bit(restored.state, state)


@pytest.mark.parametrize('kept_share', [0, 0.5])
@pytest.mark.parametrize('pattern', ['state/manifest.ocdbt', 'host/metadata'])
def test_a_truncated_file_gives_one_line(tmp_path, pattern, kept_share):
  save(tmp_path, 3)
  (path,) = (tmp_path / '3').glob(pattern)
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * kept_share)])
  with CheckpointManager(tmp_path) as checkpoints:
    with pytest.raises(ValueError, match=r'3 cannot be restored') as caught:
      checkpoints.restore(abstract(make_state()))
  assert '\n' not in str(caught.value)


def test_a_missing_part_gives_one_line(tmp_path):
  save(tmp_path, 3)
  for path in data_files(tmp_path, 3):
    path.unlink()
  with CheckpointManager(tmp_path) as checkpoints:
    with pytest.raises(ValueError, match=r'3 cannot be restored') as caught:
      checkpoints.restore(abstract(make_state()))
  assert '\n' not in str(caught.value)


def test_another_model_is_told_leaf_by_leaf(tmp_path):
  save(tmp_path, 3)
  other = make_state(width=7)
  other.params['extra'] = jnp.zeros(3)
  with CheckpointManager(tmp_path) as checkpoints:
    with pytest.raises(ValueError, match='does not fit') as caught:
      checkpoints.restore(abstract(other))
  message = str(caught.value)
  assert 'params/kernel: float32[3, 5] on disk, float32[3, 7] in' in message
  assert 'params/extra: absent on disk, float32[3] in the model' in message
  assert 'in 4 of' in message


def test_another_precision_is_not_cast_silently(tmp_path):
  save(tmp_path, 3)
  other = make_state()
  other.params['half'] = other.params['half'].astype(jnp.float32)
  with CheckpointManager(tmp_path) as checkpoints:
    with pytest.raises(ValueError, match=r'bfloat16\[7\] on disk, float32'):
      checkpoints.restore(abstract(other))


def test_a_step_that_is_not_there_is_named_beside_those_that_are(tmp_path):
  save(tmp_path, 2, 3)
  with CheckpointManager(tmp_path) as checkpoints:
    with pytest.raises(ValueError, match=r'no checkpoint of step 5.*\[2, 3\]'):
      checkpoints.restore(abstract(make_state()), step=5)


def test_a_failed_write_gives_one_line(tmp_path, monkeypatch):
  with CheckpointManager(tmp_path) as checkpoints:

    def no_space(*unused_args, **unused_kwargs):
      raise OSError(28, 'No space left on device')

    monkeypatch.setattr(checkpoints._orbax, 'save', no_space)
    with pytest.raises(OSError, match=r'No space left.*free some space'):
      checkpoints.save(1, make_state(), position=1)


def test_keeping_none_is_refused(tmp_path):
  with pytest.raises(ValueError, match='keep is 0'):
    CheckpointManager(tmp_path, keep=0)


def test_a_relative_folder_is_accepted(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save(pathlib.Path('run/checkpoints'), 3)
  assert (tmp_path / 'run' / 'checkpoints' / '3').is_dir()


def start(checkpoints, *, warm=True):
  return manager.resume_or_start(
    checkpoints,
    abstract_state=abstract(make_state()),
    warm_start=(lambda: make_state(7)) if warm else None,
    scratch=lambda: make_state(11),
  )


def test_resume_comes_before_warm_start_and_warm_start_before_scratch(tmp_path):
  with CheckpointManager(tmp_path) as checkpoints:
    scratch = start(checkpoints, warm=False)
    warm = start(checkpoints)
    checkpoints.save(3, make_state(3), position=POSITION)
    checkpoints.wait()
    resumed = start(checkpoints)
  assert_equal_bit_for_bit(scratch.state, make_state(11))
  assert_equal_bit_for_bit(warm.state, make_state(7))
  assert (warm.step, warm.position) == (0, 0)
  assert_equal_bit_for_bit(resumed.state, make_state(3))
  assert (resumed.step, resumed.position) == (3, POSITION)


# Saves a state that takes long enough to write, again and again.
ENDLESS_SAVER = """
import sys
import jax.numpy as jnp
from musiclm_jax.checkpoints.manager import CheckpointManager
with CheckpointManager(sys.argv[1], keep=2) as checkpoints:
  for step in range(1 + (checkpoints.latest_step or 0), 10**6):
    state = {'w': jnp.full((1009, 4001), float(step))}
    checkpoints.save(step, state, position=step)
    print(step, flush=True)
"""


def run_python(code, *arguments, stderr=None):
  environment = os.environ | {
    'PYTHONPATH': os.getcwd(),
    'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
  }
  return subprocess.Popen(
    [sys.executable, '-c', code, *map(str, arguments)],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=stderr,
    text=True,
  )


@pytest.mark.slow
def test_killed_at_any_moment_of_a_save_a_whole_checkpoint_is_left(tmp_path):
  draw = np.random.default_rng(0)
  unfinished, last_step = 0, 0
  for _ in range(5):
    saver = run_python(ENDLESS_SAVER, tmp_path)
    for _ in range(3):  # Two saves are done when the third has begun.
      assert saver.stdout.readline()
    time.sleep(draw.uniform(0, 0.1))
    saver.send_signal(signal.SIGKILL)
    saver.wait()
    unfinished += any(not path.name.isdigit() for path in tmp_path.iterdir())
    with CheckpointManager(tmp_path) as checkpoints:
      shapes = {'w': jax.ShapeDtypeStruct((1009, 4001), jnp.float32)}
      restored = checkpoints.restore(shapes)
    assert restored.step == restored.position > last_step
    last_step = restored.step
    np.testing.assert_array_equal(restored.state['w'], restored.step)
  assert unfinished  # At least one kill did fall into a save.


# A limit on the size of files stands in for a full disk: it needs no root.
ON_A_FULL_DISK = """
import resource, signal, sys
import jax
from musiclm_jax.checkpoints.manager import CheckpointManager
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
state = {'w': jax.random.normal(jax.random.key(0), (1009, 101))}
with CheckpointManager(sys.argv[1]) as checkpoints:
  checkpoints.save(1, state, position=1)
  checkpoints.wait()
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
  checkpoints.save(2, state, position=2)
  try:
    checkpoints.wait()
  except OSError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_gives_one_line_and_leaves_what_was_saved(tmp_path):
  process = run_python(ON_A_FULL_DISK, tmp_path, stderr=subprocess.PIPE)
  output, errors = process.communicate(timeout=60)
  assert process.returncode == 0
  assert output == (
    f'A checkpoint could not be written to {tmp_path}: File too large. Those'
    ' before it are whole; free some space and start again to resume.\n'
  )
  assert 'Traceback' not in errors
  with CheckpointManager(tmp_path) as checkpoints:
    assert checkpoints.steps == (1,)


ONE_OF_SEVERAL = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from musiclm_jax.checkpoints import bundle
from musiclm_jax.checkpoints.manager import CheckpointManager
directory, port, index = sys.argv[1:]
jax.distributed.initialize(f'127.0.0.1:{port}', 2, int(index))
mesh = jax.make_mesh((2, 2), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2)
place = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
whole = np.arange(8 * 16, dtype=np.float32).reshape(8, 16)
put = lambda sharding: jax.make_array_from_callback(
    whole.shape, sharding, lambda i: whole[i])
state = {'w': put(place('data', 'fsdp'))}
with CheckpointManager(directory, best_metric='loss') as checkpoints:
  for step in (1, 2):
    checkpoints.save(step, state, position=step, metrics={'loss': step})
  checkpoints.wait()
with CheckpointManager(directory) as checkpoints:
  assert checkpoints.latest_step == 2
  for sharding in (place('data', 'fsdp'), place('fsdp', 'data'), place()):
    shape = jax.ShapeDtypeStruct(whole.shape, whole.dtype, sharding=sharding)
    got = checkpoints.restore({'w': shape}).state['w']
    assert got.sharding == sharding
    for shard in got.addressable_shards:
      np.testing.assert_array_equal(shard.data, whole[shard.index])
contents = bundle.BundleContents(
    kind='codec', config=None, weights=state, stream_out=None)
published = bundle.publish(directory + '/model', contents)
loaded = bundle.load(directory + '/model')
assert loaded.fingerprint == published
np.testing.assert_array_equal(loaded.weights['w'], whole)
print('passed')
"""


@pytest.mark.slow
def test_two_processes_save_restore_and_publish_together(tmp_path):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  processes = [
    run_python(ONE_OF_SEVERAL, tmp_path, port, index) for index in range(2)
  ]
  for process in processes:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and 'passed' in output
