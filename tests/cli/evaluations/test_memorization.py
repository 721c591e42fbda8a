# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import json

import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.cli import evaluate
from musiclm_jax.evaluation import memorization
from musiclm_jax.semantic import base, tokenizer
from musiclm_jax.stages import semantic
from tests.data import token_toys
from tests.inference import toys


def publish_tokenizer(directory, *, seed):
  """Centroids alone, for nothing is encoded."""
  draws = np.random.default_rng(seed)
  size = token_toys.SLOW.codebook_size
  return bundle.publish(
    directory,
    bundle.BundleContents(
      kind=base.TOKENIZER,
      config=toys.ToyTokenizerConfig(),
      weights={tokenizer.CENTROIDS: draws.normal(size=(size, 3))},
      stream_out=token_toys.SLOW,
    ),
  )


@pytest.fixture
def folders(tmp_path):
  stream = dataclasses.replace(
    token_toys.SLOW,
    fingerprint=publish_tokenizer(tmp_path / 'semantic', seed=0),
  )
  encoder = token_toys.CountingEncoder()
  encoder.streams = (token_toys.CLIP, stream, token_toys.FAST)
  token_toys.write(tmp_path, encoder)
  toys.publish_stage(
    tmp_path / 'stage',
    semantic.semantic(
      conditions=[token_toys.CLIP], semantic=stream, window_seconds=3
    ),
  )
  return tmp_path


def run(folders, *options):
  evaluate.main(
    [
      'memorization',
      f'--model={folders / "stage"}',
      f'--semantic={folders / "semantic"}',
      f'--tokens={folders / "tokens"}',
      '--split=train',
      '--num_examples=4',
      '--prompt_tokens=0,2',
      f'--output={folders / "report"}',
      *options,
    ]
  )


@pytest.mark.slow
def test_a_stage_is_asked_on_the_corpus_it_was_trained_on(
  folders, monkeypatch, capsys
):
  short = functools.partial(memorization.MemorizationConfig, num_generated=3)
  monkeypatch.setattr(memorization, 'MemorizationConfig', short)
  run(folders)
  fields = json.loads((folders / 'report' / 'memorization.json').read_text())
  assert [p['prompt_frames'] for p in fields['prompts']] == [0, 2]
  assert all(len(set(p['tunes'])) > 1 for p in fields['prompts'])
  assert '| train | 4 | 2 | 0.000' in capsys.readouterr().out
  origin = json.loads(
    (folders / 'report' / 'memorization.origin.json').read_text()
  )
  assert origin['seed'] == 0 and len(origin['fingerprints']) == 2
  with pytest.raises(ValueError, match='99 examples are wanted'):
    run(folders, '--num_examples=99')


def test_another_tokenizer_and_too_short_windows_are_refused(folders):
  with pytest.raises(ValueError, match='0 windows in 0 clips of 127 frames'):
    run(folders)
  publish_tokenizer(folders / 'other', seed=1)
  with pytest.raises(ValueError, match='is not the tokenizer of'):
    run(folders, f'--semantic={folders / "other"}')
  assert not (folders / 'report').exists()
