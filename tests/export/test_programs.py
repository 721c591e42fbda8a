# SPDX-License-Identifier: Apache-2.0
"""Programs that are read back from their files, beside the modules."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from musiclm_jax.export import folder, parity, programs
from musiclm_jax.export.pytorch.codec import Codec
from musiclm_jax.export.pytorch.mulan import MuLan
from musiclm_jax.export.pytorch.stage import StageLM
from tests.export import whole
from tests.stages import toys as stage_toys


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  """The folder of a whole tiny model, with its programs."""
  directory = tmp_path_factory.mktemp('programs')
  whole.publish(directory / 'model')
  model = folder.read(directory / 'model')
  with folder.staged(directory / 'exported') as staging:
    folder.write(staging, model)
    sheet = parity.Sheet(clips='none', fingerprints={})
    programs.write(staging, places=model.bundles, sheet=sheet)
    sheet.require_passed()
  return directory / 'exported'


# Imports torch alone: the first argument is the folder of the programs, the
# second holds inputs, and is where results go.
HOST = """
import pathlib, sys
import torch
folder, data = map(pathlib.Path, sys.argv[1:])
inputs = torch.load(data / 'inputs.pt')
outputs = {}
for name, values in inputs.items():
  program = torch.export.load(folder / f'{name}.pt2').module()
  outputs[name] = program(*values), values
torch.save(outputs, data / 'outputs.pt')
wrong = ('musiclm', 'modeling', 'jax', 'safetensors')
assert not any(name.startswith(wrong) for name in sys.modules)
"""


@pytest.mark.slow
@torch.no_grad()
def test_a_host_with_torch_alone_gets_what_the_modules_give(exported, tmp_path):
  codec = Codec.from_pretrained(exported / 'codec')
  mulan = MuLan.from_pretrained(exported / 'mulan')
  stage = StageLM.from_pretrained(exported / 'stages' / 'coarse')
  layout = stage.layout
  codes = torch.randint(codec.codebook_size, (3, 13, codec.num_levels))
  waveform = torch.rand(3, 13 * codec.hop_samples) - 0.5
  tokens = torch.randint(layout.vocabulary_size, (3, layout.output.start))
  caches = [stage.new_cache(3, capacity=layout.length) for _ in range(2)]
  ids = torch.tensor([mulan.token_ids(whole.PROMPTS[0])])
  first = layout.output.start - 1
  position = torch.tensor([first])
  stage.prefill(tokens[:, :first], cache=caches[0])
  filled = caches[0].clone()
  wanted = {
    'codec_encode': codec.encode(waveform),
    'codec_decode': codec.decode(codes),
    'mulan_text': mulan.embed_text(whole.PROMPTS[:1]),
    'stages_coarse_prefill': position,
    'stages_coarse_step': stage.step(
      tokens[:, first], cache=caches[0], position=position
    ),
  }
  torch.save(
    {
      'codec_encode': (waveform,),
      'codec_decode': (codes,),
      'mulan_text': (ids, torch.ones_like(ids, dtype=torch.bool)),
      'stages_coarse_prefill': (tokens[:, :first], caches[1]),
      'stages_coarse_step': (tokens[:, first], filled, position),
    },
    tmp_path / 'inputs.pt',
  )
  done = subprocess.run(
    [sys.executable, '-c', HOST, str(exported / 'programs'), str(tmp_path)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  outputs = torch.load(tmp_path / 'outputs.pt')
  for name, value in wanted.items():
    torch.testing.assert_close(outputs[name][0], value, atol=1e-5, rtol=1e-5)
  # The caches that were handed in are written to.
  _, (_, cache) = outputs['stages_coarse_prefill']
  torch.testing.assert_close(cache[..., :first, :], filled[..., :first, :])
  _, (_, cache, _) = outputs['stages_coarse_step']
  torch.testing.assert_close(cache, caches[0])


@pytest.mark.slow
def test_a_stage_that_knows_its_segments_times_takes_any_room(tmp_path):
  stage = whole.stage(stage_toys.SPEC, position='aligned')
  component = whole.export_component(stage, tmp_path)
  (tmp_path / 'stages').mkdir()
  component.rename(tmp_path / 'stages' / 'toy')
  sheet = parity.Sheet(clips='none', fingerprints={})
  programs.write(tmp_path, places=['stages/toy'], sheet=sheet)
  sheet.require_passed()
  assert any('toy_step cache' in check.name for check in sheet.checks)


@pytest.mark.slow
def test_the_json_describes_every_file_and_the_rows(exported):
  described = json.loads((exported / 'programs/programs.json').read_text())
  files = {path.stem for path in (exported / 'programs').glob('*.pt2')}
  stages = ('semantic', 'coarse', 'fine')
  assert files == set(described['programs'])
  assert files == {
    'codec_encode',
    'codec_decode',
    'mulan_text',
    *(f'stages_{stage}_{part}' for stage in stages for part in PARTS),
  }
  layout = StageLM.from_pretrained(exported / 'stages' / 'coarse').layout
  rows = described['layouts']['stages/coarse']
  assert rows['bos_id'] == layout.bos_id and rows['length'] == layout.length
  tokens = layout.pack_prompt(
    {
      name: torch.zeros(1, layout_frames, stream.num_codebooks)
      for name, stream, layout_frames in _inputs(layout)
    }
  )
  for segment in rows['segments']:
    assert tokens[0, segment['start'] - 1] == segment['separator_id']
  assert described['programs']['codec_encode']['inputs'] == {
    'waveform': {'axes': ['batch', 'samples'], 'dtype': 'float32'}
  }


PARTS = ('prefill', 'step')


def _inputs(layout):
  for segment in layout.inputs:
    yield segment.stream.name, segment.stream, segment.num_frames


def doubling(factor=2.0):
  class Double(torch.nn.Module):
    def forward(self, values):
      return factor * values

  return programs.Program(
    name='double',
    module=Double(),
    example=lambda batch, size: (torch.ones(batch, size),),
    axes={'values': ('batch', 'size')},
    outputs={'doubled': ('batch', 'size')},
  )


def compared(loaded, program=None, **options):
  """The sheet of a program beside what was loaded."""
  sheet = parity.Sheet(clips='none', fingerprints={})
  programs.compare(
    sheet, 'programs', program=program or doubling(), loaded=loaded, **options
  )
  return sheet


def passed(sheet):
  return all(check.passed for check in sheet.checks)


def test_a_program_that_differs_from_its_module_is_refused():
  assert passed(compared(lambda values: 2 * values))
  assert passed(compared(lambda values: 2.0001 * values))
  assert not passed(compared(lambda values: 2.001 * values))
  assert not passed(compared(lambda values: torch.nan * values))


def test_a_large_integer_that_is_off_by_one_is_refused():
  def large(values):
    return (2**30 * torch.ones_like(values)).long()

  class Large(torch.nn.Module):
    def forward(self, values):
      return large(values)

  program = dataclasses.replace(doubling(), module=Large())
  assert passed(compared(large, program))
  assert not passed(compared(lambda values: large(values) + 1, program))


@pytest.mark.parametrize(
  ('loaded', 'made'),
  [
    (lambda values: 2 * values[:, 1:], r'torch.float32 \[1, 10\]'),
    (lambda values: 2 * values.double(), r'torch.float64 \[1, 11\]'),
  ],
)
def test_another_shape_or_type_is_named(loaded, made):
  with pytest.raises(
    ValueError, match=f'double doubled at .*, the file {made}'
  ):
    compared(loaded)


def test_inputs_that_are_written_to_are_compared_too():
  def spoils(values):
    made = 2 * values
    values += 1
    return made

  failed = [check for check in compared(spoils).checks if not check.passed]
  assert [check.name for check in failed] == [
    'double values at batch 1, size 11',
    'double values at batch 3, size 5',
  ]
  assert passed(compared(spoils, in_place=False))


def test_a_batch_of_one_and_other_sizes_run():
  program = doubling()
  exported = torch.export.export(
    program.module,
    program.example(2, 7),
    dynamic_shapes=program.dynamic_shapes(),
  )
  assert passed(compared(exported.module(), program))


def test_a_tokenizer_alone_has_no_programs(tmp_path):
  sheet = parity.Sheet(clips='none', fingerprints={})
  with pytest.raises(ValueError, match='not of semantic'):
    programs.write(tmp_path, places=['semantic'], sheet=sheet)
