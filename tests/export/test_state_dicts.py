# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from musiclm_jax.export import state_dicts


def test_a_state_dict_is_arrays_by_name_also_inside_a_checkpoint(tmp_path):
  saved = torch.nn.Linear(3, 2).state_dict()
  torch.save(saved, tmp_path / 'plain.pth')
  torch.save({'state_dict': saved}, tmp_path / 'inside.pth')
  for name in ('plain.pth', 'inside.pth'):
    found = state_dicts.read(tmp_path / name)
    assert found.keys() == {'weight', 'bias'}
    np.testing.assert_array_equal(found['weight'], saved['weight'].numpy())


def test_what_is_no_state_dict_is_an_error(tmp_path):
  (tmp_path / 'text.pth').write_text('weights')
  with pytest.raises(ValueError, match='no file of weights'):
    state_dicts.read(tmp_path / 'text.pth')
  torch.save({'epoch': 3, 'weight': torch.zeros(2)}, tmp_path / 'more.pth')
  with pytest.raises(ValueError, match='more than a state dict'):
    state_dicts.read(tmp_path / 'more.pth')
