# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from musiclm_jax.export import running
from tests.export import whole


@pytest.mark.slow
def test_a_stage_decodes_in_the_type_that_is_asked_for(tmp_path):
  whole.publish(tmp_path / 'model')
  whole.export(tmp_path / 'model', tmp_path / 'out')
  twin = running.Exported(
    tmp_path / 'out', device='cpu', dtypes={'coarse': 'bfloat16'}
  )
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
