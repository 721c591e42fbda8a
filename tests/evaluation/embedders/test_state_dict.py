# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import safetensors.numpy
import torch

from musiclm_jax.evaluation.embedders import state_dict


def test_files_of_both_kinds_are_read_and_what_is_wanted_is_taken(tmp_path):
  tensors = {'a': np.arange(3, dtype=np.float16), 'b': np.ones(2, np.float32)}
  safetensors.numpy.save_file(tensors, tmp_path / 'x.safetensors')
  torch.save(
    {k: torch.tensor(v) for k, v in tensors.items()}, tmp_path / 'x.pt'
  )
  for name in ('x.safetensors', 'x.pt'):
    weights, path = state_dict.read(str(tmp_path / name), of='a net')
    assert path == tmp_path / name
    found = state_dict.select(weights, ['a'], path=path, of='a net')
    assert list(found) == ['a'] and found['a'].dtype == np.float32
    np.testing.assert_array_equal(found['a'], [0, 1, 2])
  with pytest.raises(ValueError, match="no 'c', which a state dict of a net"):
    state_dict.select(weights, ['c'], path=path, of='a net')
  with pytest.raises(ValueError, match='absent is no file; name the weights'):
    state_dict.read(tmp_path / 'absent', of='a net')
