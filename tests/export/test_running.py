# SPDX-License-Identifier: Apache-2.0
import os

import numpy as np
import pytest
import torch

from musiclm_jax.export import running
from tests.export import whole


@pytest.fixture(autouse=True)
def same_threads():
  num_threads = torch.get_num_threads()
  yield
  torch.set_num_threads(num_threads)


@pytest.mark.slow
@pytest.mark.parametrize('compiled', [False, True])
def test_a_stage_decodes_in_the_type_that_is_asked_for(
  tmp_path, monkeypatch, compiled
):
  compiles = []
  monkeypatch.setattr(torch, 'compile', lambda f: compiles.append(f) or f)
  whole.publish(tmp_path / 'model')
  whole.export(tmp_path / 'model', tmp_path / 'out')
  twin = running.Exported(
    tmp_path / 'out',
    device='cpu',
    dtypes={'coarse': 'bfloat16'},
    compiled=compiled,
  )
  assert len(compiles) == 3 * compiled
  assert twin.framework == ('torch, compiled' if compiled else 'torch')
  assert torch.get_num_threads() == len(os.sched_getaffinity(0))
  stages = twin._model.stages
  types = {name: model.logits.weight.dtype for name, model in stages.items()}
  assert types == {
    'semantic': torch.float32,
    'coarse': torch.bfloat16,
    'fine': torch.float32,
  }
  layout = stages['coarse'].layout
  tokens = np.full((2, layout.length), layout.pad_id)
  made = twin.decode_stage('coarse', tokens)
  output = made[:, layout.output.start : layout.output.stop]
  assert (output != layout.pad_id).all()
