# SPDX-License-Identifier: Apache-2.0
"""Strict JAX on eight virtual CPU devices, for every test."""

import os
import pathlib

# Before the first import of jax: a backend reads these once.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# A collective of eight devices blocks eight threads; two at once fill a small
# pool and wait for ever, and XLA ends a process that waits for 40 s.
os.environ.setdefault('NPROC', '32')
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '')
  + ' --xla_cpu_collective_call_terminate_timeout_seconds=600'
  + ' --xla_force_host_platform_device_count=8'
)
# Compiled programs are shared by the workers, by the processes that tests
# start, and by the next run.
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  str(pathlib.Path(__file__).parents[1] / '.cache' / 'jax'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')

import jax  # noqa: E402
import pytest  # noqa: E402
from etils.epath import backend, gpath  # noqa: E402
from fsspec.implementations import dirfs, local  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Skips tests of accelerators where there is none."""
  skip = pytest.mark.skip(reason='needs a GPU or TPU')
  for item in items:
    if 'accelerator' in item.keywords and jax.default_backend() == 'cpu':
      item.add_marker(skip)


class _Bucket(dirfs.DirFileSystem):
  """Files in a local folder; as in a bucket, none can be appended to."""

  def open(self, path, mode='rb', **options):
    assert 'a' not in mode, f'{path} would be appended to.'
    return super().open(path, mode=mode, **options)


@pytest.fixture
def buckets(tmp_path, monkeypatch):
  """Lets `gs://…` lead to a local folder, which holds the buckets."""
  files = tmp_path / 'buckets'
  system = _Bucket(str(files), local.LocalFileSystem(auto_mkdir=True))
  others = backend.fsspec_backend.fs
  monkeypatch.setattr(
    backend.fsspec_backend,
    'fs',
    lambda path: system if '://' in os.fspath(path) else others(path),
  )
  # Else TensorFlow is asked, which another test may have imported.
  monkeypatch.setattr(gpath, '_is_tf_installed', lambda: False)
  return files / 'gs:'
