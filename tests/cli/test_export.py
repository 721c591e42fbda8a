# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.audio import io
from musiclm_jax.checkpoints import bundle
from musiclm_jax.cli import export, flags, import_torch
from tests.export import toys


@pytest.fixture(scope='module')
def codec_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('codec')
  toys.publish_codec(directory)
  return directory


@pytest.mark.slow
def test_a_codec_is_exported_compared_on_files_and_imported(
  codec_dir, tmp_path, capsys
):
  paths = [str(tmp_path / f'{name}.wav') for name in 'ab']
  for path in paths:
    noise = np.random.default_rng(0).normal(0, 0.1, 2_000).astype(np.float32)
    io.write(path, noise, sample_rate_hz=8_000)
  output = tmp_path / 'exported'
  export.main([f'--model={codec_dir}', f'--output={output}', '--clips', *paths])
  assert 'comparisons within their bounds' in capsys.readouterr().out
  page = (output / 'PARITY.md').read_text()
  assert 'a.wav, b.wav' in page and str(tmp_path) not in page
  import_torch.main([f'--exported={output}', f'--output={tmp_path / "back"}'])
  assert capsys.readouterr().out.split() == [
    'codec:',
    bundle.load(codec_dir).fingerprint,
  ]


def test_two_kinds_of_clips_are_one_too_many():
  with pytest.raises(flags.UsageError, match='--corpus or --clips, not both'):
    export.main(['--model=a', '--output=b', '--corpus=c', '--clips', 'd.wav'])


def test_options_of_pytorch_say_nothing_to_jax():
  with pytest.raises(flags.UsageError, match='--onnx, --license of a PyTorch'):
    export.main(
      ['--model=a', '--output=b', '--format=stablehlo', '--onnx']
      + ['--license=mit']
    )


@pytest.mark.slow
def test_a_codec_is_written_as_stablehlo_or_with_programs_and_onnx(
  codec_dir, tmp_path, capsys
):
  model = f'--model={codec_dir}'
  export.main([model, f'--output={tmp_path / "a"}', '--format=stablehlo'])
  assert [path.name for path in (tmp_path / 'a').iterdir()] == ['stablehlo']
  export.main([model, f'--output={tmp_path / "b"}', '--programs', '--onnx'])
  assert (tmp_path / 'b/programs/codec_decode.pt2').exists()
  assert (tmp_path / 'b/onnx/codec_decode.onnx').exists()
  page = (tmp_path / 'b/PARITY.md').read_text()
  assert '## programs' in page and '## onnx' in page
  assert 'comparisons within their bounds' in capsys.readouterr().out


def test_a_folder_that_is_there_is_left_alone(codec_dir, tmp_path):
  (tmp_path / 'mine').write_text('')
  with pytest.raises(ValueError, match='is not empty; name a folder'):
    export.main([f'--model={codec_dir}', f'--output={tmp_path}'])
  assert [path.name for path in tmp_path.iterdir()] == ['mine']
