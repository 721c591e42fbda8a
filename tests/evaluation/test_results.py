# SPDX-License-Identifier: Apache-2.0
"""A page says of each report what gives it again."""

import json

import pytest

from musiclm_jax.evaluation import results
from tests.evaluation import toy_codec
from tests.inference import toys


def keep(directory, kind, *, seed=0, fingerprints=None):
  directory.mkdir(exist_ok=True)
  (directory / f'{kind}.md').write_text(f'Tables of {kind}.\n')
  origin = results.Origin(
    kind=kind,
    command=f'musiclm evaluate {kind} --model x',
    seed=seed,
    fingerprints=fingerprints or {},
  )
  results.write_origin(directory, origin)


def test_reports_stand_under_command_seed_and_fingerprint(tmp_path):
  keep(tmp_path / 'b', 'stages', fingerprints={'runs/x': 'ab' * 32})
  keep(tmp_path / 'a', 'codec', seed=7)
  keep(tmp_path / 'a', 'music')
  text = results.page([tmp_path / 'b', tmp_path / 'a'])
  headings = [line for line in text.splitlines() if line.startswith('## ')]
  assert headings == [
    f'## Stages, {tmp_path / "b"}',
    f'## Codec, {tmp_path / "a"}',
    f'## Music, {tmp_path / "a"}',
    '## Published by others',
  ]
  stages, codec, music = text.split('\n## ')[1:4]
  assert 'musiclm evaluate stages --model x' in stages
  assert f'- runs/x: `{"ab" * 8}`' in stages and 'Tables of stages.' in stages
  assert 'No bundle was read. Seed 7.' in codec
  assert 'Seed 0.' in music
  assert '| MusicLM | 4.0 | 0.44 | 1.01 | 0.51 |  | 312 |' in text


def test_headings_of_a_report_lie_below_its_own(tmp_path):
  keep(tmp_path, 'music')
  (tmp_path / 'music.md').write_text('# Music\n\n## Levels\n')
  headings = [
    line
    for line in results.page([tmp_path]).splitlines()
    if line.startswith('#')
  ]
  assert headings[1:4] == [f'## Music, {tmp_path}', '### Music', '#### Levels']


def test_two_models_of_one_name_are_refused(tmp_path):
  keep(tmp_path / 'a', 'codec', fingerprints={'runs/x': 'ab' * 32})
  keep(tmp_path / 'b', 'music', fingerprints={'runs/x': 'ab' * 32, 'y': 'ef'})
  assert '`abababababababab`' in results.page([tmp_path / 'a', tmp_path / 'b'])
  keep(tmp_path / 'b', 'stages', fingerprints={'runs/x': 'cd' * 32})
  with pytest.raises(
    ValueError,
    match=r'runs/x is (ab){8} in .*codec.* and (cd){8} in .*stages.* again',
  ):
    results.page([tmp_path / 'a', tmp_path / 'b'])


def test_a_folder_without_an_origin_is_named(tmp_path):
  with pytest.raises(ValueError, match=r'has no \*\.origin\.json; run'):
    results.page([tmp_path])


def test_fingerprints_of_bundles_models_and_what_they_made(tmp_path):
  fingerprint = toy_codec.publish(tmp_path / 'codec')
  assert results.fingerprints_of([str(tmp_path / 'codec'), 'nowhere', '']) == {
    str(tmp_path / 'codec'): fingerprint
  }
  (tmp_path / 'made').mkdir()
  (tmp_path / 'made' / 'generate.json').write_text(
    json.dumps({'fingerprints': {'fine': 'ef'}, 'pieces': []})
  )
  made = str(tmp_path / 'made')
  assert results.fingerprints_of([made]) == {f'{made}, fine': 'ef'}


@pytest.mark.slow
@pytest.mark.parametrize(
  'publish, count', [(toys.publish, 6), (toys.publish_audiolm, 5)]
)
def test_a_model_has_six_and_an_audiolm_five(tmp_path, publish, count):
  publish(tmp_path)
  found = results.fingerprints_of([str(tmp_path)])
  assert len(found) == len(set(found.values())) == count
