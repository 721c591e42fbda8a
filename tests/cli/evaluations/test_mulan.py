# SPDX-License-Identifier: Apache-2.0
"""A published space and a corpus on disk become a table beside chance."""

import dataclasses
import json

import pytest

from musiclm_jax.cli import evaluate, flags
from musiclm_jax.data import sources, writer
from tests.conditioning import toys

NUM_CLIPS = 35  # Five of each band; every seventh has no caption.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bands:
  """Clip n is a tone of band n % 7 for 7 s and says so."""

  name: str = 'bands'

  def clips(self):
    return [
      sources.ClipRef(
        id=f'{n}', split='test' if n % 2 else 'validation', group=f'{n}'
      )
      for n in range(NUM_CLIPS)
    ]

  def load(self, ref):
    n = int(ref.id)
    return sources.Clip(
      waveform=toys.tone(n % 7, seconds=7),
      sample_rate_hz=toys.RATE_HZ,
      captions=(f'band {n % 7}',) if n % 7 else (),
      facts={'families': [f'band {n % 7}']},
    )


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  directory = tmp_path_factory.mktemp('corpus')
  writer.write_corpus(
    Bands(),
    directory,
    sample_rate_hz=toys.RATE_HZ,
    num_workers=0,
    show_progress=False,
  )
  return directory


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  directory = tmp_path_factory.mktemp('model')
  toys.publish_conditioner(directory)
  return directory


def run(model, prepared, output, *more):
  arguments = [f'--model={model}', f'--corpus={prepared}', f'--output={output}']
  evaluate.main(['mulan', *arguments, '--seconds=5', *more])


def test_spaces_and_codes_are_compared_over_the_clips_of_both_splits(
  model, prepared, tmp_path, capsys
):
  run(model, prepared, tmp_path, '--split=validation,test')
  text = (tmp_path / 'mulan.md').read_text()
  assert text in capsys.readouterr().out
  assert 'validation and test' in text
  assert '(5 left out: a caption or a fact is missing)' in text
  fields = json.loads((tmp_path / 'mulan.json').read_text())
  # Clips of 5 s have three windows of 3 s.
  assert (fields['num_clips'], fields['num_windows']) == (30, 90)
  [kind] = fields['kinds']
  assert (kind['name'], kind['answers']) == ('first', 5)
  served = {
    (found['system'], found['direction']): found['served']['1']['mean']
    for found in kind['retrieval']
  }
  assert served['trained', 'text to audio'] == 1
  assert served['trained', 'audio to text'] == 1
  assert served['untrained', 'text to audio'] < 0.6
  # Codes hold bands 0 to 4; what is left of 5 and 6 they blur.
  through = served['both through codes', 'audio to text']
  assert served['untrained', 'audio to text'] < through <= 1
  [tags] = {found['fact'] for found in fields['tags']}
  assert tags == 'families'


def test_towers_alone_are_compared_without_codes(prepared, tmp_path):
  toys.publish_towers(tmp_path / 'towers')
  run(tmp_path / 'towers', prepared, tmp_path, '--num_clips=6', '--tags=none')
  fields = json.loads((tmp_path / 'mulan.json').read_text())
  assert fields['num_clips'] == 6 and not fields['levels']
  systems = {found['system'] for found in fields['kinds'][0]['retrieval']}
  assert systems == {'trained', 'untrained'}


@pytest.mark.parametrize(
  'more, message',
  [
    ('--num_clips=16', '16 clips are wanted.*test has 15 with captions, and 2'),
    ('--num_clips=1', '1 clips are wanted, 2 or more'),
    ('--split=nowhere', "no split 'nowhere'"),
  ],
)
def test_what_cannot_be_had_is_named(model, prepared, tmp_path, more, message):
  with pytest.raises(ValueError, match=message):
    run(model, prepared, tmp_path, more)


def test_the_corpus_is_required(model):
  with pytest.raises(flags.UsageError, match='--corpus'):
    evaluate.main(['mulan', f'--model={model}', '--output=out'])
