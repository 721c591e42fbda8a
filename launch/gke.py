# SPDX-License-Identifier: Apache-2.0
"""Runs a verb on Google Kubernetes Engine, as a JobSet.

  python launch/gke.py --name=coarse --topology=v5e:16x16 --bucket=B \
    --image=REGISTRY/musiclm_jax -- \
    train --gin_file=experiments/musiclm_coarse.gin \
    --gin.TOKENS="'/bucket/tokens'" --gin.MODEL_DIR="'gs://B/runs/coarse'"

Fills in launch/jobset.yaml and gives it to kubectl. The cluster has node pools of
the topology, JobSet, Kueue and the driver that mounts buckets, as one made by
`xpk cluster create` has. `--dry_run` prints the manifest and asks nobody. A name is
taken until `kubectl delete jobset NAME`, which also stops what runs.
"""

import argparse
import json
import math
import pathlib
import re
import string
import subprocess
import sys

_TEMPLATE = pathlib.Path(__file__).with_name('jobset.yaml')

# The label of the nodes, and the chips of each.
_TPUS = {
  'v5e': ('tpu-v5-lite-podslice', 4),
  'v5p': ('tpu-v5p-slice', 4),
  'v6e': ('tpu-v6e-slice', 4),
}
_GPUS = {
  'h100': ('nvidia-h100-80gb', 8),
  'a100': ('nvidia-a100-80gb', 8),
}
_NAME = re.compile(r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?')


def manifest(flags: argparse.Namespace) -> str:
  """The JobSet, as YAML."""
  return string.Template(_TEMPLATE.read_text(encoding='utf-8')).substitute(
    name=flags.name,
    queue=flags.queue,
    max_restarts=flags.max_restarts,
    service_account=flags.service_account,
    image=json.dumps(flags.image),
    bucket=flags.bucket,
    module=f'musiclm_jax.cli.{flags.verb}',
    # JSON is YAML, whatever is quoted in it.
    arguments=json.dumps(flags.arguments),
    **_hosts(flags.topology),
  )


def _hosts(topology: str) -> dict[str, str]:
  """How many there are, and what marks them."""
  match = re.fullmatch(r'(\w+):(\d+(?:x\d+)*)', topology)
  kind = match and match[1]
  if kind not in _TPUS | _GPUS:
    raise ValueError(
      f'--topology is KIND:SHAPE with a kind of {sorted(_TPUS | _GPUS)}, such as'
      f' v5e:16x16 or h100:4x8 (hosts × GPUs); not {topology!r}.'
    )
  num_chips = math.prod(map(int, match[2].split('x')))
  label, chips_per_host = (_TPUS | _GPUS)[kind]
  if num_chips % chips_per_host:
    raise ValueError(
      f'{topology} is {num_chips} chips, and hosts of {kind} have'
      f' {chips_per_host} each.'
    )
  found = {
    'num_hosts': str(num_chips // chips_per_host),
    'chips_per_host': str(chips_per_host),
    # With `cpu` beside it JAX would do without a GPU.
    'platforms': 'cuda',
    'resource': 'nvidia.com/gpu',
    'annotations': '{}',
    'node_selector': json.dumps({'cloud.google.com/gke-accelerator': label}),
  }
  if kind in _TPUS:
    found |= {
      'platforms': 'tpu,cpu',
      'resource': 'google.com/tpu',
      # A node pool is a slice: the pods of this job on it, and no others.
      'annotations': json.dumps(
        {
          'alpha.jobset.sigs.k8s.io/exclusive-topology': (
            'cloud.google.com/gke-nodepool'
          )
        }
      ),
      'node_selector': json.dumps(
        {
          'cloud.google.com/gke-tpu-accelerator': label,
          'cloud.google.com/gke-tpu-topology': match[2],
        }
      ),
    }
  return found


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--name', required=True, help='of the JobSet')
  parser.add_argument(
    '--topology',
    required=True,
    help='as `musiclm plan` takes it: v5e:16x16, v5p:4x4x4, v6e:16x16, h100:4x8',
  )
  parser.add_argument(
    '--image', required=True, help='made by launch/Dockerfile'
  )
  parser.add_argument('--bucket', required=True, help='mounted as /bucket')
  parser.add_argument('--max_restarts', type=int, default=20)
  parser.add_argument('--queue', default='multislice-queue', help="Kueue's")
  parser.add_argument(
    '--service_account', default='xpk-sa', help='that may use the bucket'
  )
  parser.add_argument('--dry_run', action='store_true')
  parser.add_argument('verb', help='a verb of musiclm, after `--`')
  parser.add_argument('arguments', nargs=argparse.REMAINDER)
  return parser


def main() -> None:
  parser = _parser()
  flags = parser.parse_args()
  if not _NAME.fullmatch(flags.name):
    parser.error('--name is of small letters, digits and dashes; 40 at most.')
  try:
    text = manifest(flags)
  except ValueError as error:
    parser.error(str(error))
  if flags.dry_run:
    print(text, end='')
    return
  # Not `apply`: where one of this name is there, ended or not, that does nothing.
  command = ['kubectl', 'create', '-f', '-']
  sys.exit(
    subprocess.run(command, input=text, text=True, check=False).returncode
  )


if __name__ == '__main__':
  main()
