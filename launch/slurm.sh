#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A Slurm job that runs a verb with one process a node, which drives all its GPUs,
# and that goes on where it was after a preemption, a time limit or a lost node.
#
#   sbatch --nodes=4 --time=1-00 launch/slurm.sh [--max_restarts=N] [--dry_run] \
#     train --gin_file=experiments/musiclm_coarse.gin \
#     --gin_file=partitioning/h100x8.gin …
#
# Give sbatch what the cluster wants (--partition, --account); its flags win over
# those below. Two minutes before the time limit every process gets SIGTERM and
# saves. What ended with 75 (asked to stop, and saved) or as if by a signal (stood
# still, or lost another process) is queued again; any other error of a process ends
# the job with 1. Who it is, each process asks Slurm.
#
#SBATCH --job-name=musiclm
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
set -euo pipefail

fail() {
  echo "slurm: $1" >&2
  exit 2
}

max_restarts=20 dry_run=''
while (($#)); do
  case $1 in
    --max_restarts=*) max_restarts=${1#*=} ;;
    --dry_run) dry_run=1 ;;
    --*) fail "unknown argument '$1'; flags of sbatch come before the script." ;;
    *) break ;;
  esac
  shift
done
[[ $max_restarts =~ ^[0-9]+$ ]] || fail '--max_restarts is a whole number.'
(($#)) || fail 'a verb of musiclm is wanted.'
verb=$1
shift

# srun ends with the largest status of its tasks. An error of one's own is to be it:
# those that lose that process end with 134. The shell outlives a SIGTERM, which is
# for the process; Slurm would kill that with it.
own_error=254
task="trap : TERM; \"\$@\"; status=\$?; \
((status == 0 || status == 75 || status >= 128)) || status=$own_error; \
exit \$status"

# That one process ends is no reason to kill the others, whatever the cluster's
# default: they may still be saving. JAX ends those that wait for one that is gone.
command=(
  srun --kill-on-bad-exit=0 --wait=0 bash -c "$task" bash
  python3 -m "musiclm_jax.cli.$verb" "$@"
)

if [[ -n $dry_run ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi

[[ -n ${SLURM_JOB_ID:-} ]] || fail 'submit it: sbatch launch/slurm.sh …'

status=0
"${command[@]}" || status=$?
((status != own_error)) || exit 1
restarts=${SLURM_RESTART_COUNT:-0}
if ((status == 75 || status >= 128)) && ((restarts < max_restarts)); then
  echo "slurm: ended with $status after $restarts restarts; queued again." >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
