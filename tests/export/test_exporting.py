# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from musiclm_jax.codec.base import load_codec
from musiclm_jax.export import clips, exporting, naming
from musiclm_jax.semantic.base import load_semantic
from tests.semantic import toy_tokenizer


def test_a_bound_that_does_not_hold_leaves_the_sheet_until_it_does(
  codec_dir, tmp_path, monkeypatch
):
  values = {'got': np.zeros(3)}

  def compare(sheet, component, *, found, folder, clips):
    assert (folder / 'model.safetensors').exists()
    sheet.values(component, 'x', wanted=np.ones(3), absolute=0.5, **values)

  monkeypatch.setattr(exporting, 'COMPARISONS', {'codec': compare})
  page = tmp_path / 'out.parity' / 'PARITY.md'
  for _ in range(2):  # The sheet of one does not block the next.
    with pytest.raises(
      ValueError, match='1 of 1 checks: codec x: error 1'
    ) as e:
      exporting.export(codec_dir, tmp_path / 'out', clips=clips.synthetic())
    assert str(page) in str(e.value)
  assert 'Fingerprint' in page.read_text() and '**no**' in page.read_text()
  assert list(tmp_path.iterdir()) == [page.parent]
  values['got'] = np.ones(3)
  exporting.export(codec_dir, tmp_path / 'out', clips=clips.synthetic())
  assert list(tmp_path.iterdir()) == [tmp_path / 'out']


@pytest.mark.slow
def test_what_is_not_the_same_model_is_not_exported(
  codec_dir, tmp_path, monkeypatch
):
  exact = naming.to_state_dict

  def wrong(weights, *, kind):
    state = exact(weights, kind=kind)
    name = 'decoder.blocks.0.mix.3.bias'
    return state | {name: state[name] + np.float32(0.01)}

  monkeypatch.setattr(naming, 'to_state_dict', wrong)
  with pytest.raises(ValueError, match='codec decoder.blocks.0.mix.3: error '):
    exporting.export(codec_dir, tmp_path / 'out', clips=clips.synthetic())
  assert not (tmp_path / 'out').exists()


def test_what_cannot_be_exported_is_named_before_anything_is_written(tmp_path):
  toy_tokenizer.publish_model(tmp_path / 'w2v_bert')
  with pytest.raises(ValueError, match='has no counterpart in PyTorch'):
    exporting.export(
      tmp_path / 'w2v_bert', tmp_path / 'out', clips=clips.synthetic()
    )
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('package', ['onnx', 'onnxruntime', 'onnxscript'])
def test_a_package_of_onnx_is_missed_at_once(tmp_path, monkeypatch, package):
  monkeypatch.setattr(exporting.folders, 'read', lambda _: pytest.fail())
  monkeypatch.delitem(
    sys.modules, 'musiclm_jax.export.onnx_files', raising=False
  )
  monkeypatch.delattr('musiclm_jax.export.onnx_files', raising=False)
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ModuleNotFoundError) as raised:
    exporting.export(
      tmp_path, tmp_path / 'out', clips=clips.synthetic(), with_onnx=True
    )
  assert raised.value.name == package


WITHOUT_JAX = """
  import sys

  class Refuse:
    def find_spec(self, name, path=None, target=None):
      if name.split('.')[0] in ('jax', 'jaxlib', 'flax', 'musiclm_jax'):
        raise ImportError(f'{name} is refused here')

  sys.meta_path.insert(0, Refuse())
  codec_dir, semantic_dir, audio, music, output = sys.argv[1:]
  sys.path.insert(0, codec_dir)
  import torch
  from modeling_musiclm import Codec, SemanticTokenizer

  codec = Codec.from_pretrained(codec_dir + '/codec')
  tokenizer = SemanticTokenizer.from_pretrained(semantic_dir + '/semantic')
  codes = codec.encode(torch.load(audio))
  torch.save(
    [codes, codec.decode(codes), tokenizer.encode(torch.load(music), 16_000)],
    output,
  )
  # One graph each; here, since type checks of the tests would break it.
  for call, backend in (
    (codec.decode_chunk, 'eager'),
    (codec.encode_chunk, 'eager'),
    (codec.decode_chunk, 'inductor'),
  ):
    inputs = codec.decode(codes) if call == codec.encode_chunk else codes
    compiled = torch.compile(call, backend=backend, fullgraph=True)
    for state in (None, call(inputs)[1]):
      torch.testing.assert_close(compiled(inputs, state), call(inputs, state))
  window = torch.load(music)[None, : 640 * 31]
  compiled = torch.compile(tokenizer, backend='eager', fullgraph=True)
  with torch.no_grad():
    torch.testing.assert_close(compiled(window), tokenizer(window))
  print(Codec.__module__)
"""


@pytest.mark.slow
def test_a_process_that_cannot_import_jax_makes_the_same_and_compiles(
  codec_dir, semantic_dir, exported_codec, exported_semantic, tmp_path
):
  draws = np.random.default_rng(0)
  audio = draws.normal(0, 0.3, (2, 185)).astype(np.float32)
  # With noise: where a tone leaves no sound the log-mel is that of rounding.
  music = toy_tokenizer.music(7)
  music += draws.normal(0, 0.01, music.shape).astype(np.float32)
  paths = {name: tmp_path / name for name in ('audio', 'music', 'made')}
  torch.save(torch.from_numpy(audio), paths['audio'])
  torch.save(torch.from_numpy(music), paths['music'])
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      textwrap.dedent(WITHOUT_JAX),
      exported_codec[0],
      exported_semantic[0],
      *paths.values(),
    ],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == 'modeling_musiclm.codec'
  codes, waveform, semantic = torch.load(paths['made'])
  codec = load_codec(codec_dir)
  wanted = codec.encode(audio, sample_rate_hz=codec.sample_rate_hz)
  np.testing.assert_array_equal(codes, wanted)
  np.testing.assert_allclose(waveform, codec.decode(wanted), atol=1e-4)
  tokens = load_semantic(semantic_dir).encode(music, sample_rate_hz=16_000)
  np.testing.assert_array_equal(semantic, tokens)
