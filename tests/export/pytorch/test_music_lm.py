# SPDX-License-Identifier: Apache-2.0
"""The exported model: JAX's music without JAX, in parts, with other mates."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from musiclm_jax.export import clips, exporting, importing
from musiclm_jax.export.pytorch import MusicLM
from musiclm_jax.export.pytorch.sampling import Settings
from musiclm_jax.inference import assembly
from musiclm_jax.inference.music_lm import MusicLM as JaxMusicLM
from musiclm_jax.inference.request import Request
from musiclm_jax.inference.settings import SamplingConfig
from tests.export import whole
from tests.export.whole import PROMPTS
from tests.inference import toys

# Longer than a window of each stage, and no whole tick.
SECONDS = 2.7
STORY = [[(0, PROMPTS[0]), (0.9, PROMPTS[1])], [(0, 'a'), (0.9, 'low')]]

# What a host without JAX runs: it finds the folder, and no package of ours.
ALONE = """
import sys
for name in ('jax', 'flax', 'musiclm_jax', 'numpy.random', 'tensorflow'):
  sys.modules[name] = None  # Importing it raises.
sys.path.insert(0, sys.argv[1])
import torch
from modeling_musiclm import MusicLM

music_lm = MusicLM.from_pretrained(sys.argv[1])
made = {}
for name, options in torch.load(sys.argv[3]).items():
  music = music_lm.compose(**options)
  made |= {f'{name}/{kind}': getattr(music, kind) for kind in (
    'semantic', 'acoustic', 'waveform')}
torch.save(made, sys.argv[2])
"""
REQUESTS = {
  'plain': {'prompts': PROMPTS, 'seconds': SECONDS, 'seed': 3},
  'guided': {
    'prompts': PROMPTS,
    'seconds': SECONDS,
    'seed': 3,
    'guidance': 2.5,
  },
  'story': {'prompts': STORY, 'seconds': SECONDS, 'num_samples': 2},
}
# Of a model without MuLan.
UNPROMPTED = {
  'plain': {'seconds': SECONDS, 'seed': 3, 'num_samples': 2},
  'continued': {
    'seconds': SECONDS,
    'seed': 3,
    'continue_from': 0.3 * torch.sin(torch.arange(60) / 3),
    'sample_rate_hz': 60,
  },
}


@pytest.fixture(scope='module')
def made(exported):
  return exported.compose(PROMPTS, seconds=SECONDS, seed=3)


def test_there_are_as_many_samples_as_were_asked_for(exported, made):
  assert made.waveform.shape == (2, SECONDS * exported.sample_rate_hz)
  assert made.waveform.dtype == torch.float32
  assert made.semantic.shape == (2, 14 * 5, 1)
  assert made.acoustic.shape == (2, 14 * 2, 5)
  assert made.acoustic.min() >= 0
  assert not torch.equal(made.acoustic[0], made.acoustic[1])


def test_a_row_depends_on_neither_mates_nor_place(exported, made):
  alone = exported.compose(PROMPTS[1], seconds=SECONDS, seed=3)
  assert torch.equal(alone.acoustic[0], made.acoustic[1])
  turned = exported.compose(
    [PROMPTS[1], 'a', PROMPTS[0]], seconds=SECONDS, seed=[3, 9, 3], max_rows=2
  )
  assert torch.equal(turned.acoustic[[2, 0]], made.acoustic)


def test_a_shorter_piece_is_the_beginning(exported, made):
  short = exported.compose(PROMPTS, seconds=1, seed=3)
  assert torch.equal(short.acoustic[..., :2], made.acoustic[:, :10, :2])


@pytest.mark.slow
def test_samples_of_a_prompt_stand_beside_each_other(exported, made):
  many = exported.compose(PROMPTS, seconds=SECONDS, seed=2, num_samples=2)
  assert many.seeds.tolist() == [2, 3, 2, 3]
  assert torch.equal(many.acoustic[[1, 3]], made.acoustic)


@pytest.mark.parametrize(
  'prompts',
  [PROMPTS, pytest.param(STORY, marks=pytest.mark.slow)],
  ids=['texts', 'stories'],
)
def test_what_is_streamed_is_the_whole(exported, prompts):
  options = {'seconds': SECONDS, 'seed': 3}
  whole_piece = exported.generate(prompts, **options)
  parts = list(exported.generate(prompts, stream=True, **options))
  assert len(parts) > 2
  torch.testing.assert_close(
    torch.cat(parts, dim=1), whole_piece, atol=1e-6, rtol=0
  )


def test_a_change_of_prompt_leaves_what_was_before(exported, made):
  told = exported.compose(STORY[:1], seconds=SECONDS, seed=3)
  first = 10  # 0.9 s begin in the sixth tick.
  assert torch.equal(told.acoustic[0, :first], made.acoustic[0, :first])
  assert not torch.equal(told.acoustic[0, first:], made.acoustic[0, first:])


@pytest.mark.slow
def test_a_continuation_begins_with_what_is_given(exported):
  rate_hz = exported.sample_rate_hz
  begun = 0.3 * torch.sin(torch.arange(rate_hz) / 3)
  music = exported.compose(
    PROMPTS, seconds=2, continue_from=begun, sample_rate_hz=rate_hz
  )
  codes = exported.codec.encode(begun[None])
  assert torch.equal(music.acoustic[:, :10], codes.expand(2, -1, -1))
  assert not torch.equal(music.acoustic[0, 10:], music.acoustic[1, 10:])
  heard = exported.compose(
    seconds=2, continue_from=begun, sample_rate_hz=rate_hz
  )
  prompted = exported.compose(
    seconds=2,
    prompt_audio=begun,
    continue_from=begun,
    sample_rate_hz=rate_hz,
  )
  assert torch.equal(heard.acoustic, prompted.acoustic)


def test_a_generator_draws_the_seeds(exported):
  music = [
    exported.compose(
      PROMPTS, seconds=0.2, generator=torch.Generator().manual_seed(5)
    )
    for _ in range(2)
  ]
  assert len(set(music[0].seeds.tolist())) == 2
  assert torch.equal(music[0].acoustic, music[1].acoustic)


@pytest.mark.slow
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_makes_music(exported_dir, dtype):
  model = MusicLM.from_pretrained(exported_dir, dtype=dtype)
  audio = model.generate(PROMPTS, seconds=1.3)
  assert audio.dtype == torch.float32 and audio.isfinite().all()
  assert audio.shape == (2, 1.3 * model.sample_rate_hz) and audio.std() > 0
  assert model.stages['fine'].inputs.weight.dtype == dtype
  assert model.codec.decoder.first.bias.dtype == torch.float32


@pytest.mark.parametrize(
  'options, words',
  [
    ({'prompts': ['']}, 'not a prompt'),
    ({'prompts': PROMPTS, 'seconds': 0}, 'more than 0'),
    ({'prompts': PROMPTS, 'top_k': 'some'}, "top_k is 'some'"),
    ({}, 'None holds no prompt'),
    ({'prompts': PROMPTS, 'max_rows': 0}, 'max_rows is 0'),
    ({'prompt_audio': torch.zeros(9)}, 'needs its `sample_rate_hz`'),
    (
      {
        'prompts': PROMPTS,
        'prompt_audio': torch.zeros(9),
        'sample_rate_hz': 60,
      },
      'Both `prompts` and `prompt_audio`',
    ),
    (
      {'continue_from': torch.zeros(120), 'sample_rate_hz': 60, 'seconds': 2},
      'ask for more',
    ),
  ],
)
@pytest.mark.parametrize('stream', [False, True])
def test_misuse_is_one_line_at_once(exported, options, words, stream):
  with pytest.raises(ValueError, match=words) as caught:
    exported.generate(stream=stream, **options)
  assert '\n' not in str(caught.value)


def test_pieces_that_change_apart_cannot_be_streamed_together(exported):
  with pytest.raises(ValueError, match='one after the other'):
    exported.generate([STORY[0], PROMPTS[0]], seconds=2, stream=True)
  with pytest.raises(TypeError, match='volume'):
    exported.generate(PROMPTS, volume=11)


def test_a_component_is_no_model(exported_dir):
  with pytest.raises(ValueError, match="holds a 'codec'"):
    MusicLM.from_pretrained(exported_dir / 'codec')


def test_a_model_without_mulan_takes_no_prompt(exported):
  model = MusicLM(
    codec=exported.codec,
    mulan=None,
    semantic=exported.semantic,
    stages=dict(exported.stages),
  )
  with pytest.raises(ValueError, match='takes no prompt'):
    model.generate(PROMPTS)
  with pytest.raises(ValueError, match='Guidance goes away'):
    model.generate(guidance=3.0)


def test_how_a_model_is_sampled_goes_to_pytorch_and_back(
  model_dir, exported, tmp_path
):
  toys.restate(model_dir, tmp_path / 'guided', sampling=toys.GUIDED)
  whole.export(tmp_path / 'guided', tmp_path / 'exported')
  importing.import_folder(tmp_path / 'exported', tmp_path / 'back')
  model = JaxMusicLM.load(tmp_path / 'back')
  assert model.sampling == toys.GUIDED
  found = MusicLM.from_pretrained(tmp_path / 'exported')
  settings = found._request(PROMPTS).settings
  assert settings.guidance == model.sampling.guidance_scale
  for name in assembly.STAGES:
    wanted = dataclasses.asdict(getattr(model.sampling, name))
    assert dataclasses.asdict(getattr(settings, name)) == wanted
  # Of a model that states nothing, the defaults of both are the paper's.
  assert exported.settings == Settings() != settings
  assert JaxMusicLM.load(model_dir).sampling == SamplingConfig()


def test_a_scale_of_1_is_no_guidance_and_no_second_row(exported):
  def guidance_of(**options):
    request = exported._request(PROMPTS, **options)
    ((_, composition),) = exported._compositions(request)
    return [d.guidance for d in composition._decoders.values()]

  assert guidance_of(guidance=2.0) == [2.0, 2.0, None]
  assert guidance_of(guidance=1.0) == [None, None, None]


def made_alone(exported_dir, requests, *, tmp_path):
  """What a process without JAX makes of the requests."""
  files = exported_dir, tmp_path / 'made.pt', tmp_path / 'requests.pt'
  torch.save(requests, files[2])
  result = subprocess.run(
    [sys.executable, '-c', ALONE, *map(str, files)],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  return torch.load(files[1])


def require_music_of_jax(made, model_dir, requests):
  model = JaxMusicLM.load(model_dir)
  for name, options in requests.items():
    fields = {
      key: value.numpy() if isinstance(value, torch.Tensor) else value
      for key, value in options.items()
    }
    sampling = SamplingConfig(guidance_scale=fields.pop('guidance', None))
    wanted = model.compose(Request(sampling=sampling, **fields))
    for kind in ('semantic', 'acoustic'):
      np.testing.assert_array_equal(
        made[f'{name}/{kind}'], getattr(wanted, kind), err_msg=name
      )
    np.testing.assert_allclose(
      made[f'{name}/waveform'], wanted.waveform, atol=1e-4
    )


@pytest.mark.slow
def test_a_process_without_jax_makes_the_music_of_jax(
  model_dir, exported_dir, tmp_path
):
  made = made_alone(exported_dir, REQUESTS, tmp_path=tmp_path)
  require_music_of_jax(made, model_dir, REQUESTS)
  assert not torch.equal(made['plain/acoustic'], made['guided/acoustic'])


@pytest.mark.slow
def test_an_audiolm_is_exported_whole_and_makes_the_music_of_jax(tmp_path):
  whole.publish(tmp_path / 'model', is_conditioned=False)
  exporting.export(
    tmp_path / 'model', tmp_path / 'out', clips=clips.synthetic()
  )
  assert not (tmp_path / 'out' / 'serve.py').exists()
  made = made_alone(tmp_path / 'out', UNPROMPTED, tmp_path=tmp_path)
  require_music_of_jax(made, tmp_path / 'model', UNPROMPTED)
  assert made['plain/acoustic'].shape == (2, 28, 5)
  assert len(made['plain/acoustic'].unique(dim=0)) == 2
