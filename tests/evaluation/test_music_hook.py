# SPDX-License-Identifier: Apache-2.0
"""A tiny cascade whose coarse stage is in training."""

import dataclasses
import os
import subprocess
import sys
from unittest import mock

import jax
import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec.base import load_codec
from musiclm_jax.conditioning.base import load_conditioner
from musiclm_jax.evaluation import clips, music, music_hook
from musiclm_jax.evaluation.prompts import Prompt
from musiclm_jax.inference.music_lm import Music, MusicLM
from musiclm_jax.inference.request import Request
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.stages import lm
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.training import hooks, loop, metrics_writer, optimizers
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training
from tests.evaluation import toy_ear
from tests.inference import toys
from tests.training import test_loop_processes
from tests.training.test_hooks import Recorder

BATCH, SECONDS = 8, 5
PROMPTS = (
  Prompt(text='a loud tone', reference='first'),
  Prompt(text='a high tone', reference='second'),
)
NAMES = ('piece 1', 'piece 2')


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
    rows = BATCH // process_count
    mine = slice(process_index * rows, (process_index + 1) * rows)
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
        )[mine]
        for name, stream in self.spec.streams.items()
      }
      start += 1


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  directory = tmp_path_factory.mktemp('model')
  toys.publish(directory)
  return directory


def others_of(model) -> music_hook.Others:
  return music_hook.Others(
    codec=load_codec(model / 'codec'),
    conditioner=load_conditioner(model / 'mulan'),
    stages={
      name: bundle.load(model / 'stages' / name, kind='stage')
      for name in ('semantic', 'fine')
    },
  )


def training_of(model) -> Training:
  spec = bundle.load(model / 'stages' / 'coarse').config.spec
  body = TransformerConfig(num_layers=2, num_heads=2, embed_dim=16, mlp_dim=13)
  return Training(
    objective=StageObjective(
      model=lm.StageLMConfig(spec=spec, transformer=body)
    ),
    optimizer=optimizers.adam(learning_rate=0.1),
    ema_decay=0.9,
  )


@pytest.fixture(scope='module')
def others(model):
  return others_of(model)


@pytest.fixture(scope='module')
def training(model):
  return training_of(model)


def train(model, model_dir, *, has_music=True, num_steps=5):
  """The last state of a run."""
  # Pieces are too short for a picture.
  hook = hook_of(others_of(model), num_audio_examples=0)
  training = training_of(model)
  return loop.train(
    model_dir=str(model_dir),
    training=training,
    batches=Codes(training.objective.model.spec),
    num_steps=num_steps,
    save_every_steps=num_steps,
    log_every_steps=1,
    hooks=[hook] if has_music else [],
  )


def figures_of(model_dir) -> dict[int, dict[str, float]]:
  """What the hook logged, by step."""
  path = model_dir / 'metrics' / metrics_writer.FILE_NAME
  found = {}
  for line in metrics_writer.read(path):
    figures = {k: v for k, v in line.items() if k.startswith('music/')}
    if figures:
      found[line['step']] = figures
  return found


def reference() -> music.Heard:
  """The clips that prompts name, and another."""
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
      'reference': reference(),
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
    beat=mock.Mock(),
  )


def test_music_is_that_of_the_bundle_that_would_be_published(
  run, others, model, tmp_path, monkeypatch
):
  # Nobody would see an interval, and it takes long.
  with monkeypatch.context() as without:
    without.delattr(music.frechet, 'measure')
    hook_of(others)(run)
  # While each stage is at work, and for each piece that is heard.
  assert run.beat.call_count >= len(others.stages) + 1 + len(PROMPTS)
  audio, rate_hz = run.writer.audio[4]
  assert rate_hz == toys.RATE_HZ
  hooks.Publish()(run)
  stages = {name: model / 'stages' / name for name in ('semantic', 'fine')}
  whole = MusicLM.assemble(
    tmp_path,
    **{name: model / name for name in ('codec', 'semantic', 'mulan')},
    stages={**stages, 'coarse': run.model_dir},
  )
  texts = [prompt.text for prompt in PROMPTS]
  wanted = whole.generate(texts, seconds=SECONDS, seed=7)
  assert wanted.std() > 0
  assert list(audio) == [
    'music/piece 1, a loud tone',
    'music/piece 2, a high tone',
  ]
  for found, waveform in zip(audio.values(), wanted):
    np.testing.assert_array_equal(found, waveform[None])

  # Figures are those of the folder's report.
  heard = music.hear(
    [
      clips.Clip(name=name, waveform=w, sample_rate_hz=toys.RATE_HZ)
      for name, w in zip(NAMES, wanted)
    ],
    source='here',
    embedders=[Ear()],
  )
  prompts = [
    dataclasses.replace(p, file=name) for p, name in zip(PROMPTS, NAMES)
  ]
  found = music.evaluate(heard, reference(), embedders=[Ear()], prompts=prompts)
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


def without_prompts(others) -> music_hook.EvaluateMusic:
  return hook_of(
    others,
    prompts=(),
    request=Request(seconds=SECONDS, seed=7, num_samples=2),
  )


def test_without_prompts_there_are_the_figures_that_want_none(
  run, others, monkeypatch
):
  asked, told = [], []

  class Model:
    def compose(self, request, *, progress):
      asked.append(request)
      draw = np.random.default_rng(1)
      return mock.Mock(
        spec=Music,
        waveform=draw.normal(0, 0.1, (2, 300)).astype(np.float32),
        sample_rate_hz=toys.RATE_HZ,
        prompts=('unprompted', 'unprompted'),
      )

  monkeypatch.setattr(
    music_hook.Others, 'with_stage', lambda self, contents: Model()
  )
  monkeypatch.setattr(
    music_hook.logging,
    'warning',
    lambda line, *parts: told.append(line % parts),
  )
  own = dataclasses.replace(run, writer=Recorder(), figures={})
  without_prompts(others)(own)
  assert asked[0].prompts is None and asked[0].seeds().tolist() == [7, 8]
  assert {'music/fad/toy', 'music/kld_of_sets/toy', 'music/level/rms_db'} <= (
    own.figures.keys()
  )
  assert not any('mcc' in name or 'pairs' in name for name in own.figures)
  assert any('MCC is left out: nothing says' in line for line in told)
  audio, _ = own.writer.audio[4]
  assert list(audio) == [f'music/{name}, unprompted' for name in NAMES]


def test_stages_that_read_a_condition_want_its_conditioner(others):
  body = others.stages['fine'].config.transformer
  unconditional = {
    spec.name: lm.StageLMConfig(spec=spec, transformer=body)
    for spec in toys.specs(
      mulan=None,
      semantic=others.stages['semantic'].config.spec.output.stream,
      acoustic=others.codec.stream,
    )
  }
  rest = {
    name: dataclasses.replace(stage, config=unconditional[name])
    for name, stage in others.stages.items()
  }
  without = dataclasses.replace(others, conditioner=None, stages=rest)
  without.require_fit(unconditional['coarse'])
  without = dataclasses.replace(without, stages=others.stages)
  with pytest.raises(ValueError, match='read mulan codes, and there is no'):
    without.require_fit(unconditional['coarse'])


def test_prompts_and_guidance_want_a_conditioner_before_the_first_step(others):
  without = dataclasses.replace(others, conditioner=None)
  with pytest.raises(ValueError, match='takes no prompt; leave it out'):
    hook_of(without)
  guided = SamplingConfig(guidance_scale=3.0)
  with pytest.raises(ValueError, match='Guidance goes away'):
    hook_of(without, prompts=(), request=Request(sampling=guided))


@pytest.mark.slow
def test_an_audiolm_is_heard(run, tmp_path):
  toys.publish_audiolm(tmp_path)
  stages = {
    name: bundle.load(tmp_path / 'stages' / name, kind='stage')
    for name in ('semantic', 'coarse', 'fine')
  }
  training = mock.Mock(bundle=lambda state: stages['coarse'])
  own = dataclasses.replace(
    run, training=training, writer=Recorder(), figures={}
  )
  others = music_hook.Others(
    codec=load_codec(tmp_path / 'codec'),
    conditioner=None,
    stages={name: stages[name] for name in ('semantic', 'fine')},
  )
  hook = without_prompts(others)
  assert not hook.due(dataclasses.replace(own, step=1))
  hook(own)
  assert own.figures['music/fad/toy'] > 0
  audio, _ = own.writer.audio[4]
  first, second = audio.values()
  assert np.std(first) > 0 and np.abs(first - second).max() > 0


@pytest.mark.slow
def test_training_is_the_same_bit_for_bit_with_music_and_without(
  model, tmp_path
):
  with_music, without = (
    jax.device_get(train(model, tmp_path / name, has_music=has_music))
    for name, has_music in (('with', True), ('without', False))
  )
  jax.tree.map(np.testing.assert_array_equal, with_music, without)
  assert list(figures_of(tmp_path / 'with')) == [2, 4, 5]
  assert figures_of(tmp_path / 'without') == {}


POD_RUN = """
import pathlib, sys
from musiclm_jax.cli import pod
pod.join()
from tests.evaluation import test_music_hook
test_music_hook.train(*map(pathlib.Path, sys.argv[1:]), num_steps=2)
"""


@pytest.mark.slow
def test_two_processes_hear_what_one_hears(model, tmp_path):
  for processes in (1, 2):
    arguments = [str(processes), POD_RUN, str(model), tmp_path / str(processes)]
    subprocess.run(
      [sys.executable, '-c', test_loop_processes.POD, *arguments],
      cwd=test_loop_processes.ROOT,
      env=os.environ | {'PYTHONPATH': str(test_loop_processes.ROOT)},
      check=True,
      timeout=400,
    )
  one, two = (figures_of(tmp_path / name) for name in ('1', '2'))
  assert list(one) == [2] and 'music/fad/toy' in one[2]
  assert two[2] == pytest.approx(one[2], rel=1e-4)
