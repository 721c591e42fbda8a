# SPDX-License-Identifier: Apache-2.0
"""The launcher against a Cloud that is played by one command of ours."""

import pathlib
import re
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Answers `describe` by the next line of `states`, and each verb by the next one of
# `statuses`, those of its workers; the last stays. Of a slice it is READY, unless the
# state is of a node: then its queued resource is ACTIVE.
GCLOUD = r"""#!/bin/bash
cd "$(dirname "$0")"
next() { head -n 1 "$1"; [[ $(wc -l < "$1") -le 1 ]] || sed -i 1d "$1"; }
printf '%q ' "$@" >> calls
echo >> calls
case "$*" in
  *'tpu-vm describe '*) cat node ;;
  *' describe '*)
    state=$(next states)
    case $state in
      ABSENT) echo 'ERROR: NOT_FOUND: run was not found' >&2; exit 1 ;;
      UNAVAILABLE) echo 'ERROR: try again' >&2; exit 1 ;;
      NODE_*) echo "${state#NODE_}" > node; echo ACTIVE ;;
      *) echo READY > node; echo "$state" ;;
    esac
    ;;
  *' create '*) exit "$(next creations)" ;;
  *musiclm_jax.cli*)
    # As gcloud does: that of the first worker that failed.
    command=${*: -1}
    first=0
    for status in $(next statuses); do
      STATUS=$status bash -c "${command#--command=}"
      status=$?
      ((first)) || first=$status
    done
    exit "$first"
    ;;
esac
"""

NAMED = [
  '--name=run', '--zone=z', '--accelerator_type=v5litepod-16',
  '--setup=pip install "a b"',
]  # fmt: skip
VERB = ['--', 'train', "--gin.MODEL_DIR='gs://b/a run'"]


def tpu_vm(*argv, path=''):
  return subprocess.run(
    ['bash', ROOT / 'launch' / 'tpu_vm.sh', *argv],
    env={'PATH': f'{path}:/bin:/usr/bin'},
    capture_output=True,
    text=True,
    check=False,
    timeout=60,
  )


@pytest.fixture
def cloud(tmp_path):
  """Runs the launcher; gives its status, what it did, and what it said."""

  def run(*flags, states, statuses, creations=(0,)):
    for name, script in {
      'gcloud': GCLOUD,
      'python3': '#!/bin/bash\necho ran "$@"\nexit "$STATUS"\n',
      # Nothing is left running.
      'pkill': '#!/bin/bash\nexit 1\n',
    }.items():
      (tmp_path / name).write_text(script)
      (tmp_path / name).chmod(0o755)
    for name, lines in {
      'states': states, 'statuses': statuses, 'creations': creations,
    }.items():  # fmt: skip
      (tmp_path / name).write_text(''.join(f'{line}\n' for line in lines))
    done = tpu_vm(*NAMED, '--poll_seconds=0', *flags, *VERB, path=tmp_path)
    done_words = [
      shlex.split(line)[2:]
      for line in (tmp_path / 'calls').read_text().splitlines()
    ]
    did = [words[1] for words in done_words if words[1] != 'describe']
    return done, did, done_words

  return run


def test_dry_run_prints_every_command_and_asks_nobody():
  done = tpu_vm('--dry_run', '--spot', '--project=p', *NAMED, *VERB)
  assert done.returncode == 0, done.stderr
  create, setup, verb = map(shlex.split, done.stdout.splitlines())
  assert create[:5] == 'gcloud compute tpus queued-resources create'.split()
  assert {'--spot', '--project=p', '--runtime-version=v2-alpha-tpuv5-lite'} <= {
    *create
  }
  assert setup[-1] == '--command=pip install "a b"'
  assert {'--worker=all', '--zone=z', '--project=p'} <= {*setup} & {*verb}
  # As the workers' shell reads it.
  words = shlex.split(verb[-1])
  at = words.index('python3')
  assert words[at + 1 : at + 4] == [
    '-m', 'musiclm_jax.cli.train', "--gin.MODEL_DIR='gs://b/a run'",
  ]  # fmt: skip


def test_worker_runs_the_python_that_is_asked_for():
  done = tpu_vm('--dry_run', '--python=~/env/bin/python', *NAMED, *VERB)
  command = shlex.split(done.stdout.splitlines()[-1])[-1]
  # Not quoted: the home is the worker's.
  assert '; ~/env/bin/python -m musiclm_jax.cli.train' in command
  # What it leaves behind is found by the same words.
  pattern = re.search("pkill -f '(.*?)'", command)[1]
  for python in ('/home/u/env/bin/python', 'python3', 'python3.11'):
    assert re.search(pattern, f'{python} -m musiclm_jax.cli.train --a')
  assert not re.search(pattern, f'bash -c {command}')


def test_slice_is_asked_for_awaited_set_up_and_used(cloud):
  states = ['ABSENT', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE']
  done, did, words = cloud(states=states, statuses=[0])
  assert done.returncode == 0, done.stderr
  assert did == ['create', 'ssh', 'ssh']
  assert words[-2][-1] == '--command=pip install "a b"'
  assert 'run is still there' in done.stderr


def test_run_that_was_stopped_is_started_again_on_the_same_slice(cloud):
  done, did, _ = cloud(states=['ACTIVE'], statuses=[75, 137, '0 134', 255, 0])
  assert done.returncode == 0
  assert did == ['ssh', 'ssh'] * 5


def test_slice_that_was_taken_away_is_replaced(cloud):
  states = ['ACTIVE', 'SUSPENDING', 'SUSPENDING', 'SUSPENDED', 'ABSENT']
  done, did, _ = cloud(states=[*states, 'ACTIVE'], statuses=[1, 0])
  assert done.returncode == 0
  assert did == ['ssh', 'ssh', 'delete', 'create', 'ssh', 'ssh']


@pytest.mark.parametrize('state', ['PREEMPTED', 'TERMINATED'])
def test_node_that_was_taken_away_is_too(cloud, state):
  states = ['ACTIVE', f'NODE_{state}', f'NODE_{state}', 'ABSENT', 'ACTIVE']
  done, did, _ = cloud(states=states, statuses=[1, 0])
  assert done.returncode == 0
  assert did == ['ssh', 'ssh', 'delete', 'create', 'ssh', 'ssh']


def test_cloud_that_does_not_answer_is_asked_again(cloud):
  states = ['UNAVAILABLE', 'ACTIVE', 'UNAVAILABLE', 'ACTIVE']
  done, did, _ = cloud(states=states, statuses=[1, 0])
  assert done.returncode == 0
  # Nothing is made anew for it.
  assert did == ['ssh', 'ssh', 'ssh', 'ssh']
  assert 'try again' in done.stderr


def test_slice_that_is_refused_is_asked_for_five_times(cloud):
  done, did, _ = cloud(
    states=['ABSENT'] * 3 + ['ACTIVE'], statuses=[0], creations=[1, 1, 0]
  )
  assert done.returncode == 0
  assert did == ['create'] * 3 + ['ssh', 'ssh']


def test_slice_that_is_always_refused_ends_the_launcher(cloud):
  done, did, _ = cloud(states=['ABSENT'], statuses=[0], creations=[1])
  assert done.returncode == 2
  assert did == ['create'] * 5
  assert 'was not created, five times' in done.stderr


def test_error_of_one_worker_is_not_hidden_by_those_that_lost_it(cloud):
  done, did, _ = cloud(states=['ACTIVE'], statuses=['134 3 134'])
  assert done.returncode == 3
  assert did == ['ssh', 'ssh']
  assert done.stdout.count('ran -m musiclm_jax.cli.train') == 3


def test_error_on_a_sound_slice_ends_the_launcher(cloud):
  done, did, _ = cloud(states=['ACTIVE'], statuses=[1])
  assert done.returncode == 1
  assert did == ['ssh', 'ssh']
  assert 'ended with 1; not started again' in done.stderr


def test_restarts_are_counted(cloud):
  done, did, _ = cloud('--max_restarts=2', states=['ACTIVE'], statuses=[75])
  assert done.returncode == 75
  assert did == ['ssh', 'ssh'] * 3
  assert 'after 2 restarts' in done.stderr


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ([*NAMED[1:], *VERB], '--name is required'),
    ([*NAMED, '--zones=z', *VERB], "unknown argument '--zones=z'"),
    ([*NAMED, '--max_restarts=many', *VERB], 'a whole number'),
    ([*NAMED, '--accelerator_type=v99-8', *VERB], '--runtime_version of v99-8'),
    (NAMED, 'a verb of musiclm is wanted'),
  ],
)
def test_mistake_is_one_line(argv, message):
  done = tpu_vm('--dry_run', *argv)
  assert done.returncode == 2
  assert message in done.stderr
  assert done.stderr.count('\n') == 1
