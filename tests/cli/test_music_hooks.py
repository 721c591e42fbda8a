# SPDX-License-Identifier: Apache-2.0
"""Hooks from paths, and the gin files that add them to a run."""

import gin
import pytest

from musiclm_jax.cli import flags, music_hooks, setup
from musiclm_jax.data import silence
from musiclm_jax.evaluation.embedders import loading
from musiclm_jax.training import loop
from tests.data import toys as data_toys
from tests.evaluation.test_music_hook import Ear
from tests.export import whole

NUM_PIECES = 3  # Of the validation split.


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  directory = tmp_path_factory.mktemp('model')
  whole.publish(directory)
  return directory


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  directory = tmp_path_factory.mktemp('corpus')
  source = data_toys.Sines(num_clips=5 * NUM_PIECES)
  data_toys.write(directory, source)
  return directory


@pytest.fixture
def asked(monkeypatch):
  found = []

  def load(name, path=None):
    found.append((name, path))
    return Ear()

  monkeypatch.setattr(loading, 'load', load)
  return found


def music_of(folders, corpus, **changes):
  return music_hooks.evaluate_music(
    **{
      'corpus': str(corpus),
      'codec': str(folders / 'codec'),
      'conditioner': str(folders / 'mulan'),
      'stages': [str(folders / 'stages' / n) for n in ('fine', 'semantic')],
      'every_steps': 7,
      'num_references': NUM_PIECES,
      'num_prompts': 2,
      'seconds': 1,
      'embedders': ['mulan', 'musicnn', 'vggish=here.pth'],
      **changes,
    }
  )


def test_captions_are_asked_for_and_paired_with_their_pieces(
  folders, corpus, asked
):
  hook = music_of(folders, corpus)
  assert asked == [
    ('mulan', str(folders / 'mulan')),
    ('musicnn', None),
    ('vggish', 'here.pth'),
  ]
  prompts = hook._prompts
  assert [(p.text, p.reference, p.file) for p in prompts] == [
    ('sine 4', 'sine-4', 'piece 1'),
    ('sine 9', 'sine-9', 'piece 2'),
  ]
  assert [clip.name for clip in hook._reference.clips] == [
    'sine-4',
    'sine-9',
    'sine-14',
  ]
  assert set(hook._others.stages) == {'semantic', 'fine'}


def test_the_reference_is_no_larger_than_asked_for_or_than_the_split(
  folders, corpus, asked
):
  for num_references, count in ((2, 2), (10, NUM_PIECES)):
    hook = music_of(folders, corpus, num_references=num_references)
    assert len(hook._reference.clips) == count


def test_a_file_of_prompts_takes_the_place_of_captions(
  folders, corpus, asked, tmp_path
):
  path = tmp_path / 'prompts.jsonl'
  path.write_text(
    '{"prompt": "a harp"}\n{"prompt": "a bell"}\n'
    '{"prompt": "a drum", "reference": "sine-4"}\n{"prompt": "a horn"}\n'
  )
  hook = music_of(folders, corpus, prompts=str(path), num_prompts=2)
  assert [(p.text, p.reference) for p in hook._prompts] == [
    ('a harp', None),
    ('a drum', 'sine-4'),
  ]


def test_without_a_conditioner_pieces_of_as_many_seeds_are_made(
  folders, corpus, asked
):
  options = {'conditioner': None, 'embedders': ['musicnn'], 'seed': 5}
  hook = music_of(folders, corpus, **options)
  assert hook._prompts == () and hook._others.conditioner is None
  assert hook._request.prompts is None
  assert hook._request.seeds().tolist() == [5, 6]
  with pytest.raises(ValueError, match='no conditioner that understands'):
    music_of(folders, corpus, prompts='prompts.jsonl', **options)


def test_more_prompts_than_there_are_is_an_error(folders, corpus, asked):
  with pytest.raises(ValueError, match='4 prompts are wanted, and .* has 3;'):
    music_of(folders, corpus, num_prompts=NUM_PIECES + 1)


def test_a_bundle_that_is_not_there_is_told_before_the_first_step(
  folders, corpus, asked
):
  with pytest.raises(ValueError, match='absent is not a bundle'):
    music_of(folders, corpus, stages=['absent'])


def test_clips_of_a_codec_are_at_its_rate(corpus):
  options = {'corpus': str(corpus), 'every_steps': 7, 'seconds': 1}
  hook = music_hooks.evaluate_codec(
    **options, sample_rate_hz=data_toys.RATE_HZ, num_clips=2
  )
  assert [clip.size for clip in hook._clips] == [data_toys.RATE_HZ] * 2
  with pytest.raises(flags.UsageError, match="no metric 'visqoll'"):
    music_hooks.evaluate_codec(
      **options,
      sample_rate_hz=data_toys.RATE_HZ,
      num_clips=2,
      metrics=['visqoll'],
    )
  with pytest.raises(ValueError, match='The codec takes 7 Hz'):
    music_hooks.evaluate_codec(**options, sample_rate_hz=7)


@pytest.fixture(scope='module')
def silent(tmp_path_factory):
  return silence.write_all(tmp_path_factory.mktemp('silence'))


@pytest.mark.parametrize(
  ('experiment', 'file', 'bindings'),
  [
    (
      'coarse_stage_tiny',
      'evaluate_music',
      {
        'CODEC': 'codec',
        'CONDITIONER': 'conditioner',
        'OTHER_STAGES': ['semantic', 'fine'],
        'evaluate_music.num_prompts': 3,
      },
    ),
    ('codec_tiny', 'evaluate_codec', {'COPIES_EVERY_STEPS': 13}),
  ],
)
def test_gin_files_add_a_hook_to_the_runs_own(
  experiment, file, bindings, silent
):
  parser = flags.Parser(prog='musiclm train')
  parser.add_gin_flags()
  paths = {name: silent[name] for name in ('CORPUS', 'TOKENS')}
  if experiment == 'codec_tiny':
    del paths['TOKENS']
  bindings = {'MODEL_DIR': 'run', **paths, **bindings}
  options = parser.parse_args(
    [
      f'--gin_file=experiments/{experiment}.gin',
      f'--gin_file=runs/{file}.gin',
      *(f'--gin.{name}={value!r}' for name, value in bindings.items()),
    ]
  )
  setup.configure(options, root=loop.train, supplied=['gin_config'])
  hooks = gin.get_bindings(loop.train, resolve_references=False)['hooks']
  assert [str(hook) for hook in hooks] == [
    '@hooks.Evaluate()',
    f'@music_hooks.{file}()',
    '@hooks.Publish()',
  ]
