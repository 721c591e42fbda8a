# SPDX-License-Identifier: Apache-2.0
import sys
import types
from unittest import mock

import pytest
import torch

from musiclm_jax.export.serving import main


@pytest.fixture
def modules(monkeypatch):
  """What lies beside the server; loading gives a `MagicMock`."""
  modules = mock.MagicMock()
  monkeypatch.setitem(sys.modules, 'modeling_musiclm', modules)
  monkeypatch.setattr(main.uvicorn, 'run', modules.run)
  return modules


@pytest.mark.parametrize('has_gpu, device', [(True, 'cuda'), (False, 'cpu')])
def test_the_gpu_is_used_if_there_is_one(monkeypatch, modules, has_gpu, device):
  monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
  main.main([])
  main.main(['--device', 'cuda:1'])
  loads = modules.MusicLM.from_pretrained.call_args_list
  assert [load.kwargs['device'] for load in loads] == [device, 'cuda:1']


def test_norms_of_the_codec_are_folded_before_it_serves(modules):
  main.main([])
  model = modules.MusicLM.from_pretrained.return_value
  model.codec.fold_weight_norm.assert_called_once_with()


def test_how_long_it_serves_on_when_it_is_told_to_stop(modules):
  main.main(['--stop_seconds', '7', '--timeout_seconds', '90'])
  assert modules.run.call_args.kwargs['timeout_graceful_shutdown'] == 7


def test_a_host_without_tokenizers_does_not_start(monkeypatch):
  def token_ids(text):
    raise ModuleNotFoundError(name='tokenizers')

  model = types.SimpleNamespace(
    mulan=types.SimpleNamespace(token_ids=token_ids)
  )
  modules = types.SimpleNamespace(
    MusicLM=types.SimpleNamespace(from_pretrained=lambda *_, **__: model)
  )
  monkeypatch.setitem(sys.modules, 'modeling_musiclm', modules)
  monkeypatch.setattr(main.uvicorn, 'run', lambda *_, **__: pytest.fail())
  with pytest.raises(ModuleNotFoundError):
    main.main([])
