# SPDX-License-Identifier: Apache-2.0
"""A conditioner beside its export: the same passes, a small defect does not."""

import pytest
import safetensors.numpy

from musiclm_jax.checkpoints import bundle
from musiclm_jax.export import clips, parity, parity_mulan
from musiclm_jax.mulan import resnet
from tests.export import whole

BODY = resnet.ResNetConfig(blocks=(1, 2), channels=4, num_groups=2)


def compare(folder):
  made = parity.Sheet(clips='none', fingerprints={})
  parity_mulan.compare(
    made,
    'mulan',
    found=bundle.load(folder.parent / 'bundle'),
    folder=folder,
    clips=clips.synthetic(),
  )
  return made


@pytest.mark.slow
@pytest.mark.parametrize('body', [None, BODY], ids=['patches', 'convolutions'])
def test_layers_embeddings_and_codes_are_compared_and_the_same(tmp_path, body):
  made = compare(whole.export_component(whole.conditioner(body=body), tmp_path))
  made.require_passed()
  names = {check.name for check in made.checks}
  part = 'encoder.layers.0.attention.out' if body is None else 'stem_norm'
  assert {
    f'audio.body.{part}',
    'audio.projection.map',
    'text.bert.encoder.layers.0.feedforward.narrow',
    'embeddings of texts',
    'embeddings of clips shorter than a window',
    'codes of clips',
  } < names


@pytest.mark.slow
def test_a_damaged_layer_fails_by_name(tmp_path):
  folder = whole.export_component(whole.conditioner(), tmp_path)
  path = folder / 'model.safetensors'
  weights = safetensors.numpy.load_file(path)
  weights['audio.body.positions.weight'][1] *= 1.01
  safetensors.numpy.save_file(weights, path)
  made = compare(folder)
  failed = [check.name for check in made.checks if not check.passed]
  assert 'audio.body.encoder.layers.0' in failed
  assert not [name for name in failed if name.startswith('text.')]
  with pytest.raises(ValueError, match='mulan audio.body'):
    made.require_passed()
