# SPDX-License-Identifier: Apache-2.0
"""The batch script, in a job that is played by two commands of ours."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / 'launch' / 'slurm.sh'

# Ends with the largest status of its tasks, each a process group of its own.
SRUN = r"""
largest=0
for wanted in $STATUSES; do
  WANTED=$wanted setsid -w "${@:3}"
  status=$?
  ((status <= largest)) || largest=$status
done
exit $largest
"""

# Where a SIGTERM is wanted Slurm sends it to all the task's processes.
PYTHON = r"""
[[ $WANTED != SIGTERM ]] || { trap 'sleep 0.2; exit 75' TERM; kill -TERM 0; }
exit "$WANTED"
"""


def slurm(*argv, path=None, **environment):
  return subprocess.run(
    ['bash', SCRIPT, *argv],
    env={'PATH': f'{path or ""}:/bin:/usr/bin', **environment},
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.fixture
def job(tmp_path):
  """Runs the script in a job whose processes end with these statuses."""

  def run(statuses, *argv, restarts=0):
    note = f'printf "%s\\n" "${{0##*/}}" "$@" >> {tmp_path}/calls'
    for name, script in {
      'srun': note + SRUN, 'scontrol': note, 'python3': PYTHON,
    }.items():  # fmt: skip
      command = tmp_path / name
      command.write_text(f'#!/bin/bash\n{script}\n')
      command.chmod(0o755)
    done = slurm(
      *argv,
      path=tmp_path,
      STATUSES=statuses,
      SLURM_JOB_ID='4099',
      SLURM_RESTART_COUNT=str(restarts),
    )
    return done, (tmp_path / 'calls').read_text().splitlines()

  return run


def test_script_is_clean_to_shellcheck():
  done = subprocess.run(
    # Its package's, beside this Python.
    [pathlib.Path(sys.executable).with_name('shellcheck')]
    + sorted((ROOT / 'launch').glob('*.sh')),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout


def test_dry_run_prints_the_command_and_starts_nothing():
  done = slurm('--dry_run', 'train', "--gin.MODEL_DIR='a b'", path='/nowhere')
  assert done.returncode == 0
  assert done.stdout.split()[:1] == ['srun']
  assert "musiclm_jax.cli.train --gin.MODEL_DIR=\\'a\\ b\\'" in done.stdout


def test_arguments_reach_the_verb_as_they_are(job):
  done, calls = job('0', 'train', "--gin.MODEL_DIR='a b'")
  assert done.returncode == 0
  assert calls[0] == 'srun'
  assert calls[-3:] == ['-m', 'musiclm_jax.cli.train', "--gin.MODEL_DIR='a b'"]
  # One that has saved must not have the others killed.
  assert '--kill-on-bad-exit=0' in calls


@pytest.mark.parametrize(
  ('statuses', 'status'),
  [('75 75', 75), ('134 0', 134), ('137 134', 137), ('SIGTERM', 75)],
)
def test_job_that_was_stopped_is_queued_again(job, statuses, status):
  done, calls = job(statuses, '--max_restarts=3', 'train', restarts=2)
  assert done.returncode == status
  assert calls[-3:] == ['scontrol', 'requeue', '4099']


@pytest.mark.parametrize(
  ('statuses', 'restarts', 'status'),
  [
    ('0 0', 0, 0),
    ('1', 0, 1),
    # Those that have lost it do not hide it.
    ('134 2 137 75', 0, 1),
    ('75', 3, 75),
    ('137', 3, 137),
  ],
)
def test_error_or_the_last_restart_ends_the_job(
  job, statuses, restarts, status
):
  done, calls = job(statuses, '--max_restarts=3', 'train', restarts=restarts)
  assert done.returncode == status
  assert 'scontrol' not in calls


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--nodes=4', 'train'], 'flags of sbatch come before the script'),
    (['--max_restarts=many', 'train'], 'a whole number'),
    ([], 'a verb of musiclm is wanted'),
    (['train'], 'submit it: sbatch'),
  ],
)
def test_mistake_is_one_line(argv, message):
  done = slurm(*argv)
  assert done.returncode == 2
  assert message in done.stderr
  assert done.stderr.count('\n') == 1
