# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.inference import assembly
from musiclm_jax.inference.music_lm import MusicLM
from musiclm_jax.inference.settings import SamplingConfig
from tests.inference import toys


@pytest.fixture
def copied(model_dir, tmp_path):
  """A model to spoil."""
  return pathlib.Path(shutil.copytree(model_dir, tmp_path / 'model'))


def edit(directory, **changes):
  path = directory / assembly.MUSIC_LM_JSON
  fields = json.loads(path.read_text()) | changes
  path.write_text(json.dumps(fields))
  return fields


def test_paths_are_relative_so_a_model_can_be_moved(copied):
  fields = json.loads((copied / assembly.MUSIC_LM_JSON).read_text())
  assert fields == {
    'format_version': 1,
    'codec': 'codec',
    'semantic': 'semantic',
    'mulan': 'mulan',
    'stages': {name: f'stages/{name}' for name in assembly.STAGES},
  }
  found = assembly.read(copied)
  assert found.codec == copied / 'codec'
  assert found.fingerprints()['stages/fine'] == (
    bundle.load(copied / 'stages' / 'fine').fingerprint
  )


def test_bundles_elsewhere_are_found_from_the_model(copied, tmp_path):
  folders = {name: copied / name for name in assembly.TOKENIZERS}
  stages = {name: copied / 'stages' / name for name in assembly.STAGES}
  elsewhere = tmp_path / 'a' / 'b'
  assembly.write(elsewhere, **folders, stages=stages)
  fields = json.loads((elsewhere / assembly.MUSIC_LM_JSON).read_text())
  assert fields['codec'] == '../../model/codec'
  assert assembly.read(elsewhere).codec.resolve() == copied / 'codec'
  assert [path.name for path in elsewhere.iterdir()] == ['music_lm.json']


def test_a_model_states_how_it_wants_to_be_sampled(copied, tmp_path):
  toys.restate(copied, tmp_path / 'guided', sampling=toys.GUIDED)
  assert assembly.read(tmp_path / 'guided').sampling == toys.GUIDED
  # Whatever was written before there was such a field says the defaults.
  before = (copied / assembly.MUSIC_LM_JSON).read_bytes()
  assert assembly.read(copied).sampling == SamplingConfig()
  toys.restate(tmp_path / 'guided', copied, sampling=SamplingConfig())
  assert (copied / assembly.MUSIC_LM_JSON).read_bytes() == before


@pytest.mark.parametrize(
  'name, stage',
  [('codec', 'coarse'), ('semantic', 'semantic'), ('mulan', 'semantic')],
)
def test_another_tokenizer_is_refused_by_both_fingerprints(
  copied, tmp_path, name, stage
):
  others = {name: tmp_path / name for name in assembly.TOKENIZERS}
  toys.publish_tokenizers(others, seed=1)
  edit(copied, **{name: str(others[name])})
  wanted, got = (
    bundle.load(folder).fingerprint for folder in (copied / name, others[name])
  )
  with pytest.raises(ValueError, match='musiclm tokenize') as caught:
    MusicLM.load(copied)
  assert wanted in str(caught.value) and got in str(caught.value)
  assert stage in str(caught.value)


def test_nothing_is_written_for_bundles_that_do_not_fit(copied, tmp_path):
  folders = {name: copied / name for name in assembly.TOKENIZERS}
  stages = {name: copied / 'stages' / name for name in assembly.STAGES}
  target = tmp_path / 'out'
  with pytest.raises(ValueError, match="wanted, but .* holds a 'codec'"):
    MusicLM.assemble(
      target, **(folders | {'mulan': copied / 'codec'}), stages=stages
    )
  with pytest.raises(ValueError, match='has the stages semantic, coarse, fine'):
    assembly.write(target, **folders, stages={'fine': stages['fine']})
  with pytest.raises(ValueError, match='is not a bundle'):
    assembly.write(
      target, **folders, stages=stages | {'fine': tmp_path / 'none'}
    )
  swapped = {
    'semantic': stages['semantic'],
    'coarse': stages['fine'],
    'fine': stages['coarse'],
  }
  with pytest.raises(ValueError, match="'coarse' is wanted, but .*'fine'"):
    assembly.write(target, **folders, stages=swapped)
  assert not target.exists()


def test_stages_of_different_splits_are_refused(copied, tmp_path):
  spec = toys.specs(
    mulan=toys.MULAN,
    semantic=toys.SEMANTIC,
    acoustic=bundle.load(copied / 'codec').stream_out,
  )[2]
  fine = dataclasses.replace(
    spec,
    inputs=(dataclasses.replace(spec.inputs[0], count=3),),
    output=dataclasses.replace(spec.output, first=3, count=2),
  )
  toys.publish_stage(tmp_path / 'fine', fine)
  stages = {name: copied / 'stages' / name for name in assembly.STAGES}
  with pytest.raises(ValueError, match='makes 2 levels.*from level 4'):
    assembly.write(
      tmp_path / 'out',
      **{name: copied / name for name in assembly.TOKENIZERS},
      stages=stages | {'fine': tmp_path / 'fine'},
    )
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  'text, match',
  [
    ('{', 'is not JSON'),
    ('[]', 'format version None'),
    ('{"format_version": 2}', 'format version 2'),
    ('{"format_version": 1, "semantic": "semantic"}', "has no 'codec'"),
    ('{"format_version": 1, "codec": "codec"}', "has no 'stages'"),
  ],
)
def test_a_file_that_is_not_one_is_an_error(copied, text, match):
  (copied / assembly.MUSIC_LM_JSON).write_text(text)
  with pytest.raises(ValueError, match=match):
    MusicLM.load(copied)


def test_a_folder_without_a_model_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='musiclm assemble'):
    MusicLM.load(tmp_path)


@pytest.mark.slow
def test_a_model_without_a_tokenizer_makes_music_and_goes_on_from_none(copied):
  shutil.rmtree(copied / 'semantic')
  fields = edit(copied)
  del fields['semantic']
  (copied / assembly.MUSIC_LM_JSON).write_text(json.dumps(fields))
  music_lm = MusicLM.load(copied)
  assert 'semantic' not in music_lm.fingerprints
  assert music_lm.generate('calm', seconds=1).shape == (1, toys.RATE_HZ)
  with pytest.raises(ValueError, match='no semantic tokenizer.*from audio'):
    music_lm.generate(
      continue_from=np.ones(60, np.float32), sample_rate_hz=60, seconds=3
    )


def test_without_a_tokenizer_stages_still_have_to_agree(copied, tmp_path):
  mulan, acoustic = (
    bundle.load(copied / name).stream_out for name in ('mulan', 'codec')
  )
  other = dataclasses.replace(toys.SEMANTIC, fingerprint='ab')
  spec = toys.specs(mulan=mulan, semantic=other, acoustic=acoustic)[1]
  toys.publish_stage(tmp_path / 'coarse', spec)
  stages = {name: copied / 'stages' / name for name in assembly.STAGES}
  with pytest.raises(ValueError, match="'coarse' in .* was trained on codes"):
    assembly.write(
      tmp_path / 'out',
      codec=copied / 'codec',
      mulan=copied / 'mulan',
      stages=stages | {'coarse': tmp_path / 'coarse'},
    )
