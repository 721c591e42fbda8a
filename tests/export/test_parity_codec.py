# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.export import folder, parity, parity_codec
from musiclm_jax.export.pytorch.codec import Codec
from tests.export import toys


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  directory = tmp_path_factory.mktemp('seams')
  toys.publish_codec(directory / 'bundle')
  found = bundle.load(directory / 'bundle')
  folder.write_component(found, directory / 'codec')
  return found, directory / 'codec'


def seams(found, exported):
  """What fails of the seam between the chunks of 570 frames."""
  draws = np.random.default_rng(0)
  waveform = draws.normal(0, 0.3, (2, 570 * toys.HOP - 1)).astype(np.float32)
  sheet = parity.Sheet(clips='noise', fingerprints={})
  parity_codec._compare_seams(sheet, 'codec', found, exported, waveform)
  assert [check.name for check in sheet.checks] == [
    'latents in chunks',
    'codes in chunks',
  ]
  return sheet.checks


def test_chunks_that_fit_make_what_one_pass_makes(found):
  contents, directory = found
  exported = Codec.from_pretrained(directory)
  assert all(check.passed for check in seams(contents, exported))


def test_a_seam_that_forgets_what_was_before_it_fails(found, monkeypatch):
  contents, directory = found
  exported = Codec.from_pretrained(directory)
  exact = exported.encode_chunk
  monkeypatch.setattr(
    exported,
    'encode_chunk',
    lambda waveform, state=None, **options: exact(waveform, **options),
  )
  latents, codes = seams(contents, exported)
  assert not latents.passed
  assert codes.equal_share > 0.98  # So few that a share would let it pass.


def test_codes_that_are_not_those_of_their_latents_fail(found, monkeypatch):
  contents, directory = found
  exported = Codec.from_pretrained(directory)
  exact = exported.encode

  def off_by_one(waveform):
    codes = exact(waveform)
    codes[0, 500] = (codes[0, 500] + 1) % exported.codebook_size
    return codes

  monkeypatch.setattr(exported, 'encode', off_by_one)
  latents, codes = seams(contents, exported)
  assert latents.passed and not codes.passed
