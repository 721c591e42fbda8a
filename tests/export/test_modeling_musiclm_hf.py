# SPDX-License-Identifier: Apache-2.0
import types

import pytest
import torch

from musiclm_jax.export import modeling_musiclm_hf


@pytest.fixture
def load(tmp_path, monkeypatch):
  """Loads from a folder whose package makes nothing; what it was asked for."""
  asked = {}

  def from_pretrained(folder, **options):
    assert folder == tmp_path
    asked.update(options)
    return torch.nn.Identity()

  package = types.SimpleNamespace(
    MusicLM=types.SimpleNamespace(from_pretrained=from_pretrained)
  )
  monkeypatch.setattr(modeling_musiclm_hf, '_package', lambda _: package)

  def load(**options):
    modeling_musiclm_hf.MusicLMModel.from_pretrained(
      tmp_path, config=modeling_musiclm_hf.MusicLMConfig(), **options
    )
    return asked

  return load


@pytest.mark.parametrize('name', ['dtype', 'torch_dtype'])
@pytest.mark.parametrize(
  ('given', 'wanted'),
  [
    (None, None),
    ('auto', None),
    ('bfloat16', torch.bfloat16),
    (torch.float16, torch.float16),
  ],
)
def test_types_go_by_both_their_names(load, name, given, wanted):
  assert load(**{name: given})['dtype'] is wanted


def test_what_is_not_known_is_an_error_and_not_left_out(load):
  with pytest.raises(TypeError, match='takes no attn_implementation; it takes'):
    load(attn_implementation='sdpa')


def test_what_the_auto_classes_add_is_no_error(load):
  options = {'trust_remote_code': True, 'adapter_kwargs': {}, 'revision': 'a'}
  assert load(**options, device_map='cpu') == {'device': 'cpu', 'dtype': None}
