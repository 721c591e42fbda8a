# SPDX-License-Identifier: Apache-2.0
import sys
import types

import pytest

from musiclm_jax.export.serving import main


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
