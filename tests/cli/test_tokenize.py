# SPDX-License-Identifier: Apache-2.0
"""From audio to trained stages by commands alone, and what is refused."""

import json
import pathlib

import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.cli import data, evaluate, flags, tokenize, train
from musiclm_jax.data import token_corpus
from musiclm_jax.training import metrics_writer
from tests.data import toys
from tests.tokenization import fakes

STAGES = ('semantic', 'coarse', 'fine')
# Of the toys' streams: half of the four acoustic levels are coarse.
BINDINGS = {
  'semantic': (),
  'coarse': ('--gin.coarse.coarse.num_levels=2',),
  'fine': ('--gin.fine.fine.num_coarse_levels=2',),
}
TINY = (
  '--gin.transformer.TransformerConfig.num_layers=1',
  '--gin.transformer.TransformerConfig.embed_dim=16',
  '--gin.transformer.TransformerConfig.mlp_dim=24',
  '--gin.transformer.TransformerConfig.num_heads=2',
  '--gin.BATCH_SIZE=8',
  '--gin.WINDOW_SECONDS=2',
  '--gin.LOG_EVERY_STEPS=1',
  '--gin.WARMUP_STEPS=2',
  '--gin.PEAK_LEARNING_RATE=0.02',
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('cascade')
  toys.write(folder / 'corpus', toys.Sines(num_clips=23))
  fakes.publish(folder)
  tokenize_corpus(folder)
  return folder


def tokenize_corpus(folder, *more, models=None):
  models = models or folder
  tokenize.main(
    [
      f'--corpus={folder / "corpus"}',
      f'--codec={models / "codec"}',
      f'--semantic={models / "semantic"}',
      f'--conditioner={models / "conditioner"}',
      f'--output={folder / "tokens"}',
      '--windows=3,2',
      *more,
    ]
  )


def train_stage(folder, stage, *, tokens=None, steps=6):
  train.main(
    [
      f'--gin_file=experiments/{stage}_stage_tiny.gin',
      f"--gin.MODEL_DIR='{folder / stage}_stage'",
      f"--gin.TOKENS='{tokens or folder / 'tokens'}'",
      f'--gin.NUM_STEPS={steps}',
      *BINDINGS[stage],
      *TINY,
    ]
  )


@pytest.fixture(scope='module')
def trained(folder):
  """The folder with a few steps of every stage in it."""
  for stage in STAGES:
    train_stage(folder, stage)
  return folder


def losses(model_dir: pathlib.Path, name='train/loss'):
  lines = metrics_writer.read(model_dir / 'metrics' / metrics_writer.FILE_NAME)
  return [line[name] for line in lines if name in line]


def test_the_report_shows_streams_hours_and_usage(folder, capsys):
  capsys.readouterr()
  data.main(['report', str(folder / 'tokens')])
  shown = capsys.readouterr().out
  acoustic = bundle.load(folder / 'codec').fingerprint
  assert 'sines: 23 clips, 0.02 h' in shown
  assert acoustic in ' '.join(shown.split())
  for word in ('validation', 'codes used', 'perplexity', 'windows of 3, 2 s'):
    assert word in shown


def test_the_corpus_holds_the_fingerprints_of_its_models(folder):
  streams = token_corpus.TokenCorpus(folder / 'tokens').streams
  assert {name: stream.fingerprint for name, stream in streams.items()} == {
    'mulan': bundle.load(folder / 'conditioner').fingerprint,
    'semantic': bundle.load(folder / 'semantic').fingerprint,
    'acoustic': bundle.load(folder / 'codec').fingerprint,
  }


def test_shares_without_a_pod_are_given_by_hand(folder, tmp_path):
  for number in range(2):
    output = f'--output={tmp_path / "tokens"}'
    tokenize_corpus(folder, output, f'--process={number}/2')
    finished = (tmp_path / 'tokens' / token_corpus.TOKENS_FILE).exists()
    assert finished == (number == 1)
  assert toys.digests(tmp_path / 'tokens') == toys.digests(folder / 'tokens')


def test_models_that_the_corpus_was_not_begun_with_are_refused(
  folder, tmp_path
):
  other = fakes.publish(tmp_path, version=1)
  with pytest.raises(ValueError, match=f'of {other["acoustic"]}.*asked for'):
    tokenize_corpus(folder, models=tmp_path)


def test_what_cannot_be_asked_for_is_named(folder, tmp_path):
  output = f'--output={tmp_path}'
  with pytest.raises(flags.UsageError, match='--windows'):
    tokenize_corpus(folder, output, '--windows=long')
  with pytest.raises(flags.UsageError, match='--process'):
    tokenize_corpus(folder, output, '--process=1')
  with pytest.raises(ValueError, match="kind 'semantic' is wanted.*'codec'"):
    tokenize_corpus(folder, output, f'--semantic={folder / "codec"}')
  with pytest.raises(ValueError, match='Process 2 is not of 2'):
    tokenize_corpus(folder, output, '--process=2/2')


@pytest.mark.slow
def test_three_stages_are_trained_on_the_codes_and_on_no_others(
  trained, tmp_path
):
  folder = trained
  fingerprints = {
    name: stream.fingerprint
    for name, stream in token_corpus.TokenCorpus(
      folder / 'tokens'
    ).streams.items()
  }
  read = {
    'semantic': ('mulan', 'semantic'),
    'coarse': ('mulan', 'semantic', 'acoustic'),
    'fine': ('acoustic',),
  }
  for stage in STAGES:
    model_dir = folder / f'{stage}_stage'
    published = bundle.load(model_dir, kind='stage')
    assert published.trained_on == {n: fingerprints[n] for n in read[stage]}
    assert published.config.spec.name == stage
    of_stage = losses(model_dir)
    assert len(of_stage) == 6 and of_stage[-1] < of_stage[0]
    output = 'semantic' if stage == 'semantic' else 'acoustic'
    name = f'evaluate/stage/{stage}/bits_per_code/{output}'
    assert losses(model_dir, name)

  # Codes of other models: a new run, or none.
  fakes.publish(tmp_path, version=1)
  tokenize_corpus(folder, f'--output={tmp_path / "tokens"}', models=tmp_path)
  with pytest.raises(ValueError, match='was trained on acoustic codes of'):
    train_stage(folder, 'fine', tokens=tmp_path / 'tokens', steps=9)
  model = json.loads((folder / 'fine_stage' / bundle.MODEL_JSON).read_text())
  assert model['trained_on'] == {'acoustic': fingerprints['acoustic']}


@pytest.mark.slow
def test_trained_stages_are_measured_beside_n_grams(trained, tmp_path, capsys):
  evaluate.main(
    [
      'stages',
      f'--tokens={trained / "tokens"}',
      f'--model={trained / "semantic_stage"},{trained / "fine_stage"}',
      '--split=validation',
      f'--output={tmp_path}',
    ]
  )
  text = (tmp_path / 'stages.md').read_text()
  assert text in capsys.readouterr().out
  assert 'split validation: 4 clips of 4 tunes' in text
  for row in ("Stage 'semantic'", "Stage 'fine'", '| 3 | ', '| 4 | ', '| all'):
    assert row in text
  fields = json.loads((tmp_path / 'stages.json').read_text())
  # Windows of 2 s lie end to end in clips of 2.4, 2.9, 3.4 and 3.8 s.
  assert fields['stages'][1]['num_codes'] == [10, 10, 10, 10]
