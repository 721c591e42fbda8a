# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from musiclm_jax.export import folder, onnx_files, parity
from musiclm_jax.export.pytorch.codec import Codec
from musiclm_jax.export.pytorch.mulan import MuLan
from tests.export import whole


@pytest.mark.slow
def test_onnxruntime_gives_what_the_modules_give(tmp_path):
  whole.publish(tmp_path / 'model')
  whole.export(tmp_path / 'model', tmp_path / 'out')
  places = folder.read(tmp_path / 'model').bundles
  sheet = parity.Sheet(clips='none', fingerprints={})
  onnx_files.write(tmp_path / 'out', places=places, sheet=sheet)
  sheet.require_passed()
  assert {path.name for path in (tmp_path / 'out' / 'onnx').iterdir()} == {
    'codec_decode.onnx',
    'mulan_text.onnx',
  }
  codec = Codec.from_pretrained(tmp_path / 'out' / 'codec')
  codes = torch.randint(codec.codebook_size, (3, 13, codec.num_levels))
  decode = onnx_files.runner(tmp_path / 'out' / 'onnx' / 'codec_decode.onnx')
  torch.testing.assert_close(
    decode(codes), codec.decode(codes), atol=1e-5, rtol=0
  )
  mulan = MuLan.from_pretrained(tmp_path / 'out' / 'mulan')
  ids = torch.tensor([mulan.token_ids(whole.PROMPTS[0])])
  embed = onnx_files.runner(tmp_path / 'out' / 'onnx' / 'mulan_text.onnx')
  torch.testing.assert_close(
    embed(ids, torch.ones_like(ids, dtype=torch.bool)),
    mulan.embed_text(whole.PROMPTS[:1]),
    atol=1e-5,
    rtol=0,
  )


def test_a_stage_alone_has_no_onnx(tmp_path):
  sheet = parity.Sheet(clips='none', fingerprints={})
  with pytest.raises(ValueError, match='made of the codec and of MuLan'):
    onnx_files.write(tmp_path, places=['stages/fine'], sheet=sheet)
