# SPDX-License-Identifier: Apache-2.0
import types
from unittest import mock

import pytest
import torch

from musiclm_jax.benchmark import exported, limits
from musiclm_jax.benchmark.limits import Limits
from tests.export import toys, whole


@pytest.fixture(autouse=True)
def same_threads():
  """A benchmark takes all cores; what comes after it has those it had."""
  num_threads = torch.get_num_threads()
  yield
  torch.set_num_threads(num_threads)


@pytest.mark.slow
def test_each_line_of_torch_stands_beside_one_of_jax(tmp_path, monkeypatch):
  found = Limits(flops_per_second=1e9, bytes_per_second=2e9)
  monkeypatch.setattr(limits, 'measure', lambda **_: found)
  whole.publish(tmp_path / 'model')
  whole.export(tmp_path / 'model', tmp_path / 'out')
  lines = list(
    exported.measure(
      tmp_path / 'model',
      tmp_path / 'out',
      batch_sizes=(2,),
      seconds=1,
      num_runs=2,
    )
  )
  assert [(line.benchmark, line.framework) for line in lines] == [
    (f'torch/{what}', framework)
    for what in (
      'decode/semantic',
      'decode/coarse',
      'decode/fine',
      'codec/encode',
      'codec/decode',
    )
    for framework in ('jax', 'torch')
  ]
  for in_jax, in_torch in zip(lines[::2], lines[1::2]):
    assert in_jax.limit_per_second == in_torch.limit_per_second > 0
    assert in_jax.of_jax == 1
    assert in_torch.of_jax == pytest.approx(
      in_torch.per_second / in_jax.per_second
    )
    for line in (in_jax, in_torch):
      assert line.best_per_second >= line.per_second > 0
      assert line.share_of_limit == pytest.approx(
        line.per_second / line.limit_per_second
      )
  # A step of a small stage reads its weights and half its cache.
  assert lines[0].limited_by == 'bandwidth'
  assert lines[-1].limited_by == 'products'


@pytest.mark.parametrize('backend, device', [('gpu', 'cuda'), ('cpu', 'cpu')])
def test_torch_runs_where_jax_does_and_in_its_types(
  monkeypatch, backend, device
):
  def stage(dtype):
    transformer = types.SimpleNamespace(dtype=dtype)
    return types.SimpleNamespace(
      config=types.SimpleNamespace(transformer=transformer)
    )

  class Loaded(Exception):
    pass

  def load(folder, **options):
    raise Loaded(folder, options)

  cascade = types.SimpleNamespace(
    semantic=stage('bfloat16'), coarse=stage('float32'), fine=stage('bfloat16')
  )
  model = types.SimpleNamespace(cascade=cascade)
  monkeypatch.setattr(exported.MusicLM, 'load', lambda folder: model)
  monkeypatch.setattr(exported.jax, 'default_backend', lambda: backend)
  monkeypatch.setattr(exported, 'Exported', load)
  with pytest.raises(Loaded) as loaded:
    next(exported.measure('model', 'out'))
  dtypes = {'semantic': 'bfloat16', 'coarse': 'float32', 'fine': 'bfloat16'}
  wanted = {'device': device, 'dtypes': dtypes, 'compiled': False}
  assert loaded.value.args == ('out', wanted)


def test_rows_that_would_be_filled_up_are_refused():
  with pytest.raises(ValueError, match='5 rows are decoded as 6'):
    next(exported.measure('model', 'out', batch_sizes=(1, 5)))


@pytest.mark.parametrize('can_encode', [True, False])
def test_a_codec_is_never_compiled_and_encodes_if_it_can(
  monkeypatch, can_encode
):
  found = Limits(flops_per_second=1e9, bytes_per_second=2e9)
  monkeypatch.setattr(limits, 'measure', lambda **_: found)
  config = toys.codec_config()
  codec = mock.Mock(
    stream=config.stream, sample_rate_hz=60, hop_samples=config.hop_samples
  )
  twin = mock.Mock(
    spec=exported.Exported,
    framework='torch, compiled',
    device_name='2 x CPU',
    can_encode=can_encode,
  )
  lines = exported.measure_codec(
    codec, twin, config=config, seconds=1, num_runs=1
  )
  parts = ['encode', 'decode'] if can_encode else ['decode']
  assert [(line.benchmark, line.framework) for line in lines] == [
    (f'torch/codec/{part}', framework)
    for part in parts
    for framework in ('jax', 'torch')
  ]
  assert twin.encode.called == can_encode
