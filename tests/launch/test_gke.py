# SPDX-License-Identifier: Apache-2.0
"""Manifests as Kubernetes would check them, and the numbers in them."""

import os
import pathlib
import re
import subprocess
import sys

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]

# What is ours of JobSet's own definition; a job's is Kubernetes'.
JOBSET = {
  'type': 'object',
  'additionalProperties': False,
  'required': ['apiVersion', 'kind', 'metadata', 'spec'],
  'properties': {
    'apiVersion': {'const': 'jobset.x-k8s.io/v1alpha2'},
    'kind': {'const': 'JobSet'},
    'metadata': {'type': 'object'},
    'spec': {
      'additionalProperties': False,
      'properties': {
        'ttlSecondsAfterFinished': {'type': 'integer'},
        'failurePolicy': {
          'additionalProperties': False,
          'properties': {
            'maxRestarts': {'type': 'integer'},
            'rules': {
              'items': {
                'additionalProperties': False,
                'required': ['action', 'name'],
                'properties': {
                  'name': {'pattern': '^[A-Za-z][A-Za-z0-9_]*$'},
                  'action': {
                    'enum': [
                      'FailJobSet',
                      'RestartJobSet',
                      'RestartJobSetAndIgnoreMaxRestarts',
                    ]
                  },
                  'onJobFailureReasons': {
                    'items': {
                      'enum': [
                        'BackoffLimitExceeded',
                        'DeadlineExceeded',
                        'FailedIndexes',
                        'MaxFailedIndexesExceeded',
                        'PodFailurePolicy',
                      ]
                    }
                  },
                },
              }
            },
          },
        },
        'replicatedJobs': {
          'items': {
            'additionalProperties': False,
            'required': ['name', 'template'],
            'properties': {
              'name': {'type': 'string'},
              'replicas': {'type': 'integer'},
              'template': {'type': 'object'},
            },
          }
        },
      },
    },
  },
}

AWKWARD = "--gin.MODEL_DIR='gs://b/it''s: a {run} # 1'"


def gke(*flags, path=None, **given):
  given = {
    'name': 'coarse-1',
    'topology': 'v5e:16x16',
    'image': 'registry/musiclm:7',
    'bucket': 'b',
    **given,
  }
  return subprocess.run(
    [sys.executable, 'launch/gke.py', *flags]
    + [f'--{name}={value}' for name, value in given.items()]
    + ['--', 'train', '--gin_file=experiments/musiclm_coarse.gin', AWKWARD],
    cwd=ROOT,
    env={**os.environ, **({} if path is None else {'PATH': str(path)})},
    capture_output=True,
    text=True,
    check=False,
  )


def manifest(**given):
  done = gke('--dry_run', **given)
  assert done.returncode == 0, done.stderr
  return yaml.safe_load(done.stdout)


@pytest.mark.parametrize(
  ('topology', 'hosts', 'resource', 'selector'),
  [
    ('v5e:16x16', 64, 'google.com/tpu', 'tpu-v5-lite-podslice'),
    ('v5p:4x4x4', 16, 'google.com/tpu', 'tpu-v5p-slice'),
    ('h100:3x8', 3, 'nvidia.com/gpu', 'nvidia-h100-80gb'),
  ],
)
def test_manifest_is_valid_and_has_a_pod_for_each_host(
  topology, hosts, resource, selector
):
  made = manifest(topology=topology)
  jsonschema.validate(made, JOBSET)
  [replicated] = made['spec']['replicatedJobs']
  job = replicated['template']
  kubernetes_validate.validate(
    {'apiVersion': 'batch/v1', 'kind': 'Job', **job}, '1.33', strict=True
  )
  assert job['spec']['parallelism'] == job['spec']['completions'] == hosts
  pod = job['spec']['template']['spec']
  assert selector in pod['nodeSelector'].values()
  [container] = pod['containers']
  assert list(container['resources']['limits']) == [resource]
  environment = {e['name']: e.get('value') for e in container['env']}
  assert environment['JAX_NUM_PROCESSES'] == str(hosts)
  assert environment['JAX_PLATFORMS'] == (
    'tpu,cpu' if 'tpu' in resource else 'cuda'
  )
  assert environment['JAX_COORDINATOR_ADDRESS'] == (
    'coarse-1-slice-job-0-0.coarse-1:8476'
  )
  index = container['env'][-1]
  assert index['name'] == 'JAX_PROCESS_ID'
  assert 'job-completion-index' in str(index['valueFrom'])
  # A pool of GPU nodes may hold other jobs; a slice may not.
  assert bool(made['metadata']['annotations']) == ('tpu' in resource)


def test_strict_validation_can_refuse():
  job = manifest()['spec']['replicatedJobs'][0]['template']
  job['spec']['template']['spec']['restartPolice'] = 'Never'
  with pytest.raises(
    kubernetes_validate.ValidationError, match='restartPolice'
  ):
    kubernetes_validate.validate(
      {'apiVersion': 'batch/v1', 'kind': 'Job', **job}, '1.33', strict=True
    )


def test_arguments_arrive_whatever_is_quoted_in_them():
  job = manifest()['spec']['replicatedJobs'][0]['template']
  [container] = job['spec']['template']['spec']['containers']
  assert container['command'] == ['python3', '-m', 'musiclm_jax.cli.train']
  assert container['args'] == [
    '--gin_file=experiments/musiclm_coarse.gin',
    AWKWARD,
  ]


def test_own_errors_end_the_job_and_all_else_starts_it_again():
  made = manifest(max_restarts=7)
  policy = made['spec']['failurePolicy']
  assert policy['maxRestarts'] == 7
  [rule] = policy['rules']
  assert rule['action'] == 'FailJobSet'
  assert rule['onJobFailureReasons'] == ['PodFailurePolicy']
  job = made['spec']['replicatedJobs'][0]['template']['spec']
  [rule] = job['podFailurePolicy']['rules']
  assert rule['action'] == 'FailJob'
  assert rule['onExitCodes']['operator'] == 'In'
  assert rule['onExitCodes']['values'] == [1, 2]
  assert job['backoffLimit'] == 0


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'topology': 'v9:2x2'}, "KIND:SHAPE .*not 'v9:2x2'"),
    (
      {'topology': 'h100:3'},
      'h100:3 is 3 chips, and hosts of h100 have 8 each',
    ),
    ({'name': 'Coarse_1'}, 'small letters, digits and dashes'),
  ],
)
def test_what_no_cluster_has_is_an_error(given, message):
  done = gke('--dry_run', **given)
  assert done.returncode == 2
  assert not done.stdout
  assert re.search(message, ' '.join(done.stderr.split()))


def test_kubectl_gets_the_manifest_and_refuses_a_name_that_is_taken(tmp_path):
  kubectl = tmp_path / 'kubectl'
  # As it is: `apply` of what is there, ended or not, is done at once.
  kubectl.write_text(
    f'#!/bin/bash\nset -o noclobber\n[[ $1 != apply ]] || exit 0\n'
    f'[[ $* == "create -f -" ]] && /bin/cat > {tmp_path}/manifest\n'
  )
  kubectl.chmod(0o755)
  assert gke(path=tmp_path).returncode == 0
  assert yaml.safe_load((tmp_path / 'manifest').read_text()) == manifest()
  again = gke(path=tmp_path)
  assert again.returncode == 1
  assert 'cannot overwrite' in again.stderr
