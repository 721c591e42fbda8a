# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.cli import pack
from musiclm_jax.inference import assembly, golden
from tests.export import whole

PARTS = (
  *assembly.TOKENIZERS,
  *(f'stages/{name}' for name in assembly.STAGES),
)


@pytest.mark.slow
def test_all_of_a_model_is_copied_as_it_is(tmp_path, capsys):
  whole.publish(tmp_path / 'model')
  pack.main([f'--model={tmp_path / "model"}', f'--output={tmp_path / "out"}'])
  for part in PARTS:
    for name in (bundle.MODEL_JSON, bundle.WEIGHTS):
      copied = (tmp_path / 'out' / part / name).read_bytes()
      assert copied == (tmp_path / 'model' / part / name).read_bytes()
  made = golden.read(tmp_path / 'out' / golden.FILE)
  assert set(made.fingerprints) == set(PARTS)
  printed = capsys.readouterr().out
  for part in (*PARTS, 'others', 'all'):
    assert f'{part} ' in printed


def test_a_limit_is_kept(tmp_path):
  whole.publish(tmp_path / 'model')
  command = [f'--model={tmp_path / "model"}', f'--output={tmp_path / "out"}']
  with pytest.raises(ValueError, match='more than 1,000'):
    pack.main([*command, '--max_megabytes=0.001'])
  assert not (tmp_path / 'out').exists()
