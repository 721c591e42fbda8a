# SPDX-License-Identifier: Apache-2.0
"""A tiny cascade whose coarse stage is in training."""

import dataclasses

import jax
import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec.base import load_codec
from musiclm_jax.conditioning.base import load_conditioner
from musiclm_jax.evaluation import clips, music, music_hook
from musiclm_jax.evaluation.prompts import Prompt
from musiclm_jax.inference.music_lm import MusicLM
from musiclm_jax.inference.request import Request
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.stages import lm
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.training import hooks, loop, metrics_writer, optimizers
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training
from tests.evaluation import toy_ear
from tests.inference import toys
from tests.training.test_hooks import Recorder
from tests.training.toys import Reconstruction

BATCH, SECONDS = 8, 5
PROMPTS = (
  Prompt(text='a loud tone', file='first'),
  Prompt(text='a high tone', file='second'),
)


class Ear(toy_ear.ToyEar):
  """Hears the whole of what has sixty samples a second, a second at a time."""

  sample_rate_hz = toys.RATE_HZ
  window_seconds = hop_seconds = 1.0

  def embed(self, waveform):
    rows = waveform[: len(waveform) // 60 * 60].reshape(-1, 60)
    high = np.mean(rows[:, 1:] * rows[:, :-1] < 0, axis=1)
    return np.stack([np.abs(rows).mean(axis=1), high], axis=1)


class Codes:
  """A `BatchSource` of random codes, a pure function of the position."""

  batch_size = BATCH

  def __init__(self, spec):
    self.spec = spec

  def batches(self, start, *, process_index=0, process_count=1):
    while True:
      draws = np.random.default_rng(start)
      yield {
        batches.codes_key(name): draws.integers(
          stream.codebook_size,
          size=(
            BATCH,
            stream.num_frames(self.spec.window_seconds),
            stream.num_codebooks,
          ),
          dtype=np.int32,
        )
        for name, stream in self.spec.streams.items()
      }
      start += 1


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  return toys.publish(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def others(folders):
  stages = folders['stages']
  return music_hook.Others(
    codec=load_codec(folders['codec']),
    conditioner=load_conditioner(folders['mulan']),
    stages={
      name: bundle.load(stages[name], kind='stage')
      for name in ('semantic', 'fine')
    },
  )


@pytest.fixture(scope='module')
def training(folders):
  spec = bundle.load(folders['stages']['coarse']).config.spec
  body = TransformerConfig(num_layers=2, num_heads=2, embed_dim=16, mlp_dim=13)
  return Training(
    objective=StageObjective(
      model=lm.StageLMConfig(spec=spec, transformer=body)
    ),
    optimizer=optimizers.adam(learning_rate=0.1),
    ema_decay=0.9,
  )


def reference() -> music.Heard:
  """Clips of the names of the pieces, and another."""
  draws = np.random.default_rng(0)
  return music.hear(
    [
      clips.Clip(
        name=name,
        waveform=draws.normal(0, 0.1, 300).astype(np.float32),
        sample_rate_hz=toys.RATE_HZ,
      )
      for name in ('first', 'second', 'third')
    ],
    source='there',
    embedders=[Ear()],
  )


def hook_of(others, **changes) -> music_hook.EvaluateMusic:
  request = Request(
    prompts=[prompt.text for prompt in PROMPTS], seconds=SECONDS, seed=7
  )
  return music_hook.EvaluateMusic(
    **{
      'others': others,
      'prompts': PROMPTS,
      'reference': reference,
      'embedders': [Ear()],
      'request': request,
      'every_steps': 2,
      **changes,
    }
  )


@pytest.fixture(scope='module')
def run(training, tmp_path_factory):
  """After a step whose average lags behind."""
  partitioner = Partitioner(data=8)
  source = Codes(training.objective.model.spec)
  batch = partitioner.place_batch(
    next(source.batches(0)), batch_size=source.batch_size
  )
  state = partitioner.first_state(training, seed=0, batch=batch)
  moved = jax.tree.map(lambda leaf: leaf + 0.5, state.params)
  return hooks.Run(
    model_dir=tmp_path_factory.mktemp('run'),
    training=training,
    partitioner=partitioner,
    writer=Recorder(),
    gin_config=str,
    num_steps=11,
    step=4,
    state=state.replace(params=moved),
  )


def test_music_is_that_of_the_bundle_that_would_be_published(
  run, others, folders, tmp_path
):
  hook_of(others)(run)
  audio, rate_hz = run.writer.audio[4]
  assert rate_hz == toys.RATE_HZ
  hooks.Publish()(run)
  stages = {**folders['stages'], 'coarse': run.model_dir}
  parts = {k: folders[k] for k in ('codec', 'semantic', 'mulan')}
  model = MusicLM.assemble(tmp_path, **parts, stages=stages)
  texts = [prompt.text for prompt in PROMPTS]
  wanted = model.generate(texts, seconds=SECONDS, seed=7)
  assert wanted.std() > 0
  for text, waveform in zip(texts, wanted):
    np.testing.assert_array_equal(audio[f'music/{text}'], waveform[None])

  # Figures are those of the folder's report.
  heard = music.hear(
    [
      clips.Clip(name=p.file, waveform=w, sample_rate_hz=toys.RATE_HZ)
      for p, w in zip(PROMPTS, wanted)
    ],
    source='here',
    embedders=[Ear()],
  )
  found = music.evaluate(heard, reference(), embedders=[Ear()], prompts=PROMPTS)
  assert run.writer.figures == {4: run.figures}
  assert {
    'music/fad/toy': found.frechet['toy'].distance.mean,
    'music/kld_of_pairs/toy': found.kld['toy'].paired.mean,
    'music/mcc/toy': found.consistency['toy'].matched.mean,
  }.items() <= run.figures.items()
  assert found.num_pairs == 2 and found.frechet['toy'].distance.mean > 0
  assert np.isfinite(run.figures['music/level/rms_db'])


def test_others_that_do_not_fit_are_refused_after_the_first_step(run, others):
  first = dataclasses.replace(run, step=1)
  assert not hook_of(others).due(first)
  both = {**others.stages, 'coarse': others.stages['fine']}
  with pytest.raises(ValueError, match="'coarse' is trained, and the others"):
    hook_of(dataclasses.replace(others, stages=both)).due(first)
  stream = dataclasses.replace(others.conditioner.stream, fingerprint='other')
  stranger = toys.ToyConditioner(stream, others.conditioner.directions)
  with pytest.raises(ValueError, match='give the bundles that made its tokens'):
    hook_of(dataclasses.replace(others, conditioner=stranger)).due(first)


def test_a_run_of_another_kind_is_refused(run, others):
  training = Training(
    objective=Reconstruction(), optimizer=optimizers.adam(learning_rate=0.1)
  )
  batch = {
    batches.WAVEFORM: np.zeros((8, 24), np.float32),
    batches.SAMPLE_MASK: np.ones((8, 24), bool),
  }
  state = run.partitioner.first_state(training, seed=0, batch=batch)
  other = dataclasses.replace(run, training=training, state=state, step=1)
  with pytest.raises(ValueError, match="this run trains a 'toy'"):
    hook_of(others).due(other)


@pytest.mark.slow
def test_training_is_the_same_bit_for_bit_with_music_and_without(
  training, others, tmp_path
):
  states = {}
  hook = hook_of(others, num_audio_examples=0)  # Too short for a picture.
  for name, listed in (('with', [hook]), ('without', [])):
    states[name] = loop.train(
      model_dir=str(tmp_path / name),
      training=training,
      batches=Codes(training.objective.model.spec),
      num_steps=5,
      save_every_steps=5,
      log_every_steps=1,
      hooks=listed,
    )
  jax.tree.map(
    np.testing.assert_array_equal,
    jax.device_get(states['with']),
    jax.device_get(states['without']),
  )
  path = tmp_path / 'with' / 'metrics' / metrics_writer.FILE_NAME
  steps = [
    line['step']
    for line in metrics_writer.read(path)
    if 'music/fad/toy' in line
  ]
  assert steps == [2, 4, 5]
