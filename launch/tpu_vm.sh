#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a verb on every worker of a Cloud TPU slice, and again after a preemption.
#
#   launch/tpu_vm.sh --name=coarse --zone=us-west4-a \
#     --accelerator_type=v5litepod-256 --spot \
#     --setup='gcloud storage cp gs://B/setup.sh . && bash setup.sh' -- \
#     train --gin_file=experiments/musiclm_coarse.gin …
#
# Asks for the slice as a queued resource, waits for it, and runs --setup and then
# the verb on every worker. What ended with 75 (asked to stop, and saved) or as if by
# a signal (stood still, or lost another process) is started again, and so is all
# that ended with a slice that was taken away, on a new one. Any other error of any
# worker ends the launcher, and leaves the slice.
#
# Run it where it may stay for days: in tmux, on a small VM. Who they are, the
# workers ask the TPU's metadata.
set -euo pipefail

usage() {
  sed -n '3,18s/^# \{0,1\}//p' "$0"
  cat <<'END'

  --name=NAME               of the queued resource and of its node
  --zone=ZONE
  --accelerator_type=TYPE   v5litepod-256, v5p-128, v6e-256, …
  --setup=COMMAND           what each worker runs first: installs the package
  --python=COMMAND          what runs the verb on a worker; python3 if left out
  --project=PROJECT         gcloud's own if left out
  --runtime_version=NAME    that of the accelerator's kind if left out
  --spot                    cheaper, and may be taken away
  --max_restarts=N          20 if left out
  --poll_seconds=N          between two looks at the queue, and before the one that
                            tells why a run ended; 30 if left out
  --dry_run                 prints the commands of one undisturbed run
END
}

fail() {
  echo "tpu_vm: $1" >&2
  exit 2
}

name='' zone='' accelerator_type='' setup='' project='' runtime_version=''
spot='' max_restarts=20 poll_seconds=30 python=python3 dry_run=''
while (($#)); do
  case $1 in
    --name=* | --zone=* | --accelerator_type=* | --setup=* | --project=* | \
      --runtime_version=* | --max_restarts=* | --poll_seconds=* | --python=*)
      flag=${1%%=*}
      printf -v "${flag#--}" '%s' "${1#*=}"
      ;;
    --spot) spot=1 ;;
    --dry_run) dry_run=1 ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    *) fail "unknown argument '$1'; the verb comes after --." ;;
  esac
  shift
done
for flag in name zone accelerator_type setup; do
  [[ -n ${!flag} ]] || fail "--$flag is required."
done
[[ $max_restarts =~ ^[0-9]+$ ]] || fail '--max_restarts is a whole number.'
(($#)) || fail 'a verb of musiclm is wanted after --.'

if [[ -z $runtime_version ]]; then
  case $accelerator_type in
    v5litepod-*) runtime_version=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime_version=v2-alpha-tpuv5 ;;
    v6e-*) runtime_version=v2-alpha-tpuv6e ;;
    *) fail "--runtime_version of $accelerator_type is not known; give it." ;;
  esac
fi

where=(--zone="$zone")
[[ -z $project ]] || where+=(--project="$project")
tpus=(gcloud compute tpus)

# Runs a command, or prints it as one could type it.
run() {
  if [[ -n $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# ACTIVE, if its node is sound too; ABSENT, if the Cloud says so; UNKNOWN, if it
# does not answer.
state() {
  local now node
  if ! now=$("${tpus[@]}" queued-resources describe "$name" "${where[@]}" \
    --format='value(state.state)' 2>&1); then
    echo "$now" >&2
    if [[ $now == *NOT_FOUND* ]]; then echo ABSENT; else echo UNKNOWN; fi
  elif [[ $now == ACTIVE ]]; then
    node=$("${tpus[@]}" tpu-vm describe "$name" "${where[@]}" \
      --format='value(state)') || node=UNKNOWN
    echo "${node/#READY/ACTIVE}"
  else
    echo "$now"
  fi
}

create() {
  run "${tpus[@]}" queued-resources create "$name" --node-id="$name" \
    "${where[@]}" --accelerator-type="$accelerator_type" \
    --runtime-version="$runtime_version" ${spot:+--spot}
}

delete() {
  run "${tpus[@]}" queued-resources delete "$name" "${where[@]}" --force --quiet
}

on_all_workers() {
  run "${tpus[@]}" tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"
}

# Returns with a slice at hand, made anew if there is none or it was taken away.
acquire() {
  local now refusals=0
  if [[ -n $dry_run ]]; then
    create
    return
  fi
  while now=$(state) && [[ $now != ACTIVE ]]; do
    echo "tpu_vm: $name is $now" >&2
    case $now in
      ABSENT)
        create || ((++refusals < 5)) || fail "$name was not created, five times."
        ;;
      # One that fails is done at the next look.
      SUSPENDED | FAILED | PREEMPTED | TERMINATED) delete || true ;;
    esac
    sleep "$poll_seconds"
  done
}

# What a launcher that lost its connection left running still holds the chips. The
# shell that looks for it has the same words in its own command, but not first.
#
# gcloud ends with the status of the first worker that failed, be it of one that lost
# another. So who has an error of its own says it in a line, and the status is that.
verb() {
  local old own_error line status=''
  old="'^[^ ]*python[^ ]* -m musiclm_jax'" own_error='tpu_vm: error of its own:'
  on_all_workers "pkill -f $old && sleep 30; pkill -KILL -f $old; \
$python -m musiclm_jax.cli.$(printf '%q ' "$@"); status=\$?; \
[ \$status = 0 ] || [ \$status = 75 ] || [ \$status -ge 128 ] || \
echo '$own_error' \$status; exit \$status" | (
    while IFS= read -r line; do
      printf '%s\n' "$line"
      [[ $line != "$own_error "* ]] || status=${line##* }
    done
    exit "${status:-0}"
  )
  local statuses=("${PIPESTATUS[@]}")
  ((statuses[1])) || return "${statuses[0]}"
  return "${statuses[1]}"
}

for ((restarts = 0; ; restarts++)); do
  acquire
  status=0
  { on_all_workers "$setup" && verb "$@"; } || status=$?
  [[ -z $dry_run ]] || exit 0
  if ((!status)); then
    echo "tpu_vm: done. $name is still there, and is paid for until you delete it." >&2
    exit 0
  fi
  # The Cloud may learn later than the run that the slice is gone.
  sleep "$poll_seconds"
  now=$(state)
  if ((status != 75 && status < 128)) && [[ $now == ACTIVE ]]; then
    echo "tpu_vm: ended with $status; not started again." >&2
    exit "$status"
  fi
  if ((restarts >= max_restarts)); then
    echo "tpu_vm: ended with $status after $restarts restarts." >&2
    exit "$status"
  fi
  echo "tpu_vm: ended with $status, $name is $now; starting again." >&2
done
