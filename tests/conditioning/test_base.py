# SPDX-License-Identifier: Apache-2.0
"""A conditioner on disk is the one token space of every stage."""

import subprocess
import sys

import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.conditioning import base
from musiclm_jax.streams import TokenStream
from tests.conditioning import toys


@pytest.fixture(scope='module')
def published(tmp_path_factory):
  directory = tmp_path_factory.mktemp('conditioner')
  toys.publish_conditioner(directory)
  return directory


def test_what_was_published_is_loaded_with_its_fingerprint(published):
  loaded = base.load_conditioner(published)
  assert isinstance(loaded, base.Conditioner)
  assert loaded.stream == TokenStream(
    name='mulan',
    rate_hz=None,
    num_codebooks=toys.NUM_LEVELS,
    codebook_size=toys.CODEBOOK_SIZE,
    fingerprint=bundle.load(published).fingerprint,
  )


def test_towers_alone_are_no_conditioner(tmp_path):
  toys.publish_towers(tmp_path)
  with pytest.raises(ValueError, match="'conditioner' is wanted.*'mulan'"):
    base.load_conditioner(tmp_path)


IN_ANOTHER_PROCESS = """
import sys
from musiclm_jax.conditioning import base
from tests.conditioning import toys
loaded = base.load_conditioner(sys.argv[1])
tones = toys.tone(1, seconds=5)[None]
codes = loaded.encode_audio(tones, sample_rate_hz=toys.RATE_HZ)
texts = loaded.encode_text(['band 2', 'band 3 and band 4'])
print(loaded.stream.fingerprint, codes.tolist(), texts.tolist())
"""


def test_codes_are_the_same_in_every_process_however_much_was_encoded_before(
  published,
):
  def elsewhere():
    command = [sys.executable, '-c', IN_ANOTHER_PROCESS, published]
    return subprocess.run(
      command, capture_output=True, text=True, check=True
    ).stdout.split(maxsplit=1)

  fingerprint, told = elsewhere()
  here = base.load_conditioner(published)
  # Encoding other things first moves nothing.
  here.quantize(np.random.default_rng(0).standard_normal((101, 7)))
  tones = toys.tone(1, seconds=5)[None]
  codes = here.encode_audio(tones, sample_rate_hz=toys.RATE_HZ)
  texts = here.encode_text(['band 2', 'band 3 and band 4'])
  assert told.strip() == f'{codes.tolist()} {texts.tolist()}'
  assert fingerprint == here.stream.fingerprint
  assert bundle.load(published).fingerprint == fingerprint  # Nothing written.


def test_a_stage_refuses_another_conditioner_and_names_both(
  published, tmp_path
):
  """Codebooks that were fitted apart are two token spaces, whatever the towers."""
  here = bundle.load(published)
  other = toys.publish_conditioner(tmp_path / 'other', seed=1)
  bundle.publish(
    tmp_path / 'stage',
    bundle.BundleContents(
      kind='stage',
      config=toys.ToyTowersConfig(),
      weights=toys.towers_weights(),
      stream_out=here.stream_out,
      streams_in=(here.stream_out,),
      trained_on={'mulan': here.fingerprint},
    ),
  )
  stage = bundle.load(tmp_path / 'stage')

  def require(component):
    bundle.require_trained_on(
      stage, name='mulan', component=component, remedy='Tokenize again.'
    )

  require(here)
  with pytest.raises(
    ValueError, match=rf'{here.fingerprint}.*{other}.*Tokenize again'
  ):
    require(bundle.load(tmp_path / 'other'))


def test_a_mean_direction_has_length_one_and_lies_between():
  windows = np.array([[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 1]]])
  found = base.mean_direction(windows.astype(np.float32))
  half = np.sqrt(0.5)
  np.testing.assert_allclose(found, [[half, half, 0], [0, 0, 1]], rtol=1e-6)


def test_opposite_directions_have_the_mean_zero_and_no_nan():
  found = base.mean_direction(np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32))
  np.testing.assert_array_equal(found, [0, 0])
