# SPDX-License-Identifier: Apache-2.0
"""`musiclm fit`: kinds are found by file, and gin files say the rest."""

import dataclasses

import numpy as np
import pytest

from musiclm_jax.cli import fit, flags
from musiclm_jax.data import sources, writer
from musiclm_jax.semantic import base
from tests.semantic import toy_tokenizer

RATE_HZ = 24_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Melodies:
  """Sixteen melodies of 5 s."""

  name: str = 'melodies'

  def clips(self):
    return [
      sources.ClipRef(id=str(n), split='train', group=str(n)) for n in range(16)
    ]

  def load(self, ref):
    waveform = toy_tokenizer.music(5, seed=int(ref.id), rate_hz=RATE_HZ)
    return sources.Clip(waveform=waveform, sample_rate_hz=RATE_HZ)


def test_every_kind_is_a_file_with_help(capsys):
  assert {'semantic', 'mulan_rvq'} <= set(fit.kinds())
  with pytest.raises(SystemExit):
    fit.main(['semantic', '--help'])
  assert '--gin_file' in capsys.readouterr().out


def test_an_unknown_kind_is_a_wrong_command():
  with pytest.raises(flags.UsageError, match="'semantics'"):
    fit.main(['semantics'])


@pytest.mark.slow
def test_a_model_and_a_corpus_become_a_tokenizer(tmp_path):
  toy_tokenizer.publish_model(tmp_path / 'w2v_bert')
  writer.write_corpus(
    Melodies(),
    tmp_path / 'corpus',
    sample_rate_hz=RATE_HZ,
    num_workers=0,
    show_progress=False,
  )
  fit.main(
    [
      'semantic',
      '--gin_file=runs/fit_semantic.gin',
      f"--gin.TRAINED='{tmp_path / 'w2v_bert'}'",
      f"--gin.CORPUS='{tmp_path / 'corpus'}'",
      f"--gin.MODEL_DIR='{tmp_path / 'semantic'}'",
      '--gin.MLM_BLOCK=1',
      '--gin.NUM_BATCHES=2',
      '--gin.NUM_CLUSTERS=7',
      '--gin.WINDOW_SECONDS=5',
      '--gin.fit_semantic.fit.margin_seconds=1',
    ]
  )
  made = base.load_semantic(tmp_path / 'semantic')
  codes = made.encode(
    toy_tokenizer.music(3, rate_hz=RATE_HZ), sample_rate_hz=RATE_HZ
  )
  assert codes.shape == (1, 75)
  assert len(np.unique(codes)) > 1
  config = (tmp_path / 'semantic' / 'config.gin').read_text()
  assert 'num_clusters = %NUM_CLUSTERS' in config
