# SPDX-License-Identifier: Apache-2.0
import os
import zipfile

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


@pytest.mark.parametrize('home', ['numpy.core', 'numpy._core'])
def test_numbers_of_either_numpy_beside_the_weights_are_passed_over(
  home, tmp_path
):
  path = tmp_path / 'last.pth'
  saved = torch.nn.Linear(3, 2).state_dict()
  rates = {'lr': np.float64(0.1), 'epoch': np.int64(3)}
  torch.save({'state_dict': saved, 'optimizer': rates}, tmp_path / 'here.pth')
  with zipfile.ZipFile(tmp_path / 'here.pth') as here:
    with zipfile.ZipFile(path, 'w') as there:
      for name in here.namelist():
        data = here.read(name)
        there.writestr(
          name, data.replace(b'cnumpy._core', b'c' + home.encode())
        )
  assert state_dicts.read(path).keys() == {'weight', 'bias'}
  assert f'{home}.multiarray'.encode() in path.read_bytes()


def test_code_in_a_file_is_not_run(tmp_path):
  ran = tmp_path / 'ran'

  class Runs:
    def __reduce__(self):
      return os.mkdir, (str(ran),)

  torch.save({'state_dict': {}, 'more': Runs()}, tmp_path / 'code.pth')
  with pytest.raises(ValueError, match=r'no file .*wants to run posix\.mkdir'):
    state_dicts.read(tmp_path / 'code.pth')
  assert not ran.exists()


def test_what_is_no_state_dict_is_an_error(tmp_path):
  (tmp_path / 'text.pth').write_text('weights')
  with pytest.raises(ValueError, match='no file of weights'):
    state_dicts.read(tmp_path / 'text.pth')
  torch.save({'epoch': 3, 'weight': torch.zeros(2)}, tmp_path / 'more.pth')
  with pytest.raises(ValueError, match='more than a state dict'):
    state_dicts.read(tmp_path / 'more.pth')
