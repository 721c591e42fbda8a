# SPDX-License-Identifier: Apache-2.0
import concurrent.futures
import hashlib
import json
import multiprocessing
import pathlib

import numpy as np
import pytest

from musiclm_jax.audio import loudness
from musiclm_jax.data.tunebook import catalogue, rendering
from tests.data.tunebook import pieces


def tune_of(folder: pathlib.Path, tune_id: str) -> catalogue.Tune:
  return catalogue.read_tune(tune_id, folder=folder)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return pieces.write_folder(tmp_path_factory.mktemp('corpus'))


JIG = 'ryansMammoth/MadeUpJig.abc/1'
CHORALE = 'bach/bwv998.xml/1'


def digest(folder: pathlib.Path, tune_id: str, number: int) -> str:
  clip = rendering.render_tune(
    tune_of(folder, tune_id), rendering=number, seed=5
  )
  told = json.dumps([clip.captions, dict(clip.facts)])
  return hashlib.sha256(clip.waveform.tobytes() + told.encode()).hexdigest()


def test_a_rendering_is_the_same_bytes_in_another_process(
  folder: pathlib.Path,
):
  here = [digest(folder, tune_id, 2) for tune_id in (JIG, CHORALE)]
  spawn = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
    there = [
      pool.submit(digest, folder, tune_id, 2).result()
      for tune_id in (JIG, CHORALE)
    ]
  assert here == there
  assert here[0] != digest(folder, JIG, 3)


@pytest.mark.parametrize('tune_id', [JIG, CHORALE])
def test_a_clip_lasts_45_seconds_at_the_level_of_its_word(
  folder: pathlib.Path, tune_id: str
):
  tune = tune_of(folder, tune_id)
  for number in range(3):
    clip = rendering.render_tune(tune, rendering=number, seed=0)
    assert len(clip.waveform) >= 45 * clip.sample_rate_hz
    level = loudness.rms_db(clip.waveform)
    assert level == pytest.approx(clip.facts['level_dbfs'], abs=0.01)


def test_the_notes_cover_the_audio(folder: pathlib.Path):
  clip = rendering.render_tune(tune_of(folder, JIG), rendering=0, seed=0)
  notes = clip.facts['notes']
  onsets = np.asarray(notes['onset_seconds'])
  ends = onsets + np.asarray(notes['duration_seconds'])
  assert {len(column) for column in notes.values()} == {len(onsets)}
  assert np.all(np.diff(onsets) >= 0) and onsets[0] == 0
  seconds = len(clip.waveform) / clip.sample_rate_hz
  # A second to ring out, and what is left of the last note's length.
  assert seconds - 2.5 < ends.max() < seconds - 1


def test_facts_are_plain_json(folder: pathlib.Path):
  for tune_id in (JIG, CHORALE):
    described = rendering.describe(
      tune_of(folder, tune_id), rendering=0, seed=0
    )
    facts = dict(described.facts)
    assert json.loads(json.dumps(facts)) == facts
  assert facts['composer'] == 'Johann Sebastian Bach'
  assert facts['num_parts'] == 4


@pytest.mark.parametrize(
  ('tune_id', 'meter', 'key', 'tune_type'),
  [
    ('ryansMammoth/AcrobatsHornpipe.abc/1', '2/2', 'Bb major', 'hornpipe'),
    ('oneills1850/0001-0050.abc/1', '2/4', 'G minor', None),
    ('airdsAirs/book1.abc/4', '6/8', 'E minor', None),
    ('bach/bwv66.6.mxl/1', '4/4', 'F# minor', 'chorale'),
  ],
)
def test_a_real_tune_of_each_collection_renders(
  tune_id: str, meter: str, key: str, tune_type: str | None
):
  tune = tune_of(catalogue.corpus_folder(), tune_id)
  assert f'{tune.score.key.tonic} {tune.score.key.mode}' == key
  clip = rendering.render_tune(tune, rendering=0, seed=0)
  assert (clip.facts['meter'], clip.facts['tune_type']) == (meter, tune_type)
  assert len(clip.waveform) >= 45 * clip.sample_rate_hz
