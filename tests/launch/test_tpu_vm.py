# SPDX-License-Identifier: Apache-2.0
"""The launcher against a Cloud that is played by one command of ours."""

import pathlib
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Answers `describe` by the next line of `states` and each verb by the next one of
# `statuses`; the last stays.
GCLOUD = r"""#!/bin/bash
cd "$(dirname "$0")"
next() { head -n 1 "$1"; [[ $(wc -l < "$1") -le 1 ]] || sed -i 1d "$1"; }
printf '%q ' "$@" >> calls
echo >> calls
case "$*" in
  *' describe '*)
    state=$(next states)
    [[ $state != ABSENT ]] && echo "$state"
    ;;
  *musiclm_jax.cli*) exit "$(next statuses)" ;;
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

  def run(*flags, states, statuses):
    (tmp_path / 'gcloud').write_text(GCLOUD)
    (tmp_path / 'gcloud').chmod(0o755)
    for name, lines in {'states': states, 'statuses': statuses}.items():
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
  assert shlex.split(verb[-1])[-3:] == [
    '-m', 'musiclm_jax.cli.train', "--gin.MODEL_DIR='gs://b/a run'",
  ]  # fmt: skip


def test_slice_is_asked_for_awaited_set_up_and_used(cloud):
  states = ['ABSENT', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE']
  done, did, words = cloud(states=states, statuses=[0])
  assert done.returncode == 0, done.stderr
  assert did == ['create', 'ssh', 'ssh']
  assert words[-2][-1] == '--command=pip install "a b"'
  assert 'run is still there' in done.stderr


def test_run_that_was_stopped_is_started_again_on_the_same_slice(cloud):
  done, did, _ = cloud(states=['ACTIVE'], statuses=[75, 137, 134, 0])
  assert done.returncode == 0
  assert did == ['ssh', 'ssh'] * 4


def test_slice_that_was_taken_away_is_replaced(cloud):
  states = ['ACTIVE', 'SUSPENDING', 'SUSPENDING', 'SUSPENDED', 'ABSENT']
  done, did, _ = cloud(states=[*states, 'ACTIVE'], statuses=[1, 0])
  assert done.returncode == 0
  assert did == ['ssh', 'ssh', 'delete', 'create', 'ssh', 'ssh']


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
