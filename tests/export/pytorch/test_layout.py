# SPDX-License-Identifier: Apache-2.0
"""Rows of ids, as the layout of JAX makes them."""

import json

import numpy as np
import pytest
import torch

from musiclm_jax.checkpoints import config_json
from musiclm_jax.export.pytorch import configuration, layout
from musiclm_jax.stages.layout import StageLayout
from musiclm_jax.stages.spec import StageSpec, Take
from tests.stages import toys

# The fine stage's kind: its output is of a stream that it reads.
ONWARD = StageSpec(
  name='onward',
  inputs=(Take(stream=toys.FAST, count=2),),
  output=Take(stream=toys.FAST, first=2),
  window_seconds='0.5',
)
# A level that is both given and made has one range of ids.
AGAIN = StageSpec(
  name='again',
  inputs=(Take(stream=toys.FAST, count=2), Take(stream=toys.SLOW)),
  output=Take(stream=toys.FAST, first=1, count=2),
  window_seconds=1,
)
SPECS = {spec.name: spec for spec in (toys.SPEC, ONWARD, AGAIN)}


def both(name, tmp_path):
  spec = SPECS[name]
  path = tmp_path / 'config.json'
  fields = {'format_version': configuration.FORMAT_VERSION, 'kind': 'stage'}
  fields['config'] = {'spec': config_json.to_json(spec)}
  path.write_text(json.dumps(fields))
  config = configuration.read_config(tmp_path, kind='stage').config
  return StageLayout(spec), layout.StageLayout(config.spec)


def codes(spec, *, num_rows=3):
  draws = np.random.default_rng(0)
  return {
    name: draws.integers(
      stream.codebook_size,
      size=(
        num_rows,
        stream.num_frames(spec.window_seconds),
        stream.num_codebooks,
      ),
    )
    for name, stream in spec.streams.items()
  }


@pytest.mark.parametrize('name', SPECS)
def test_rows_are_those_of_jax(name, tmp_path):
  wanted, found = both(name, tmp_path)
  made = codes(wanted.spec)
  theirs = {key: torch.from_numpy(array) for key, array in made.items()}
  assert (found.num_ids, found.length) == (wanted.num_ids, wanted.length)
  assert found.vocabulary_size == wanted.vocabulary_size
  whole = torch.ones(1, 1, 1, dtype=torch.bool)
  np.testing.assert_array_equal(
    found.pack_prompt(theirs, given=whole), wanted.pack(made)
  )
  np.testing.assert_array_equal(
    found.pack_prompt(theirs), wanted.pack_prompt(made)
  )
  num_frames = wanted.output.num_frames
  given = np.arange(num_frames)[None, :, None] < num_frames // 2
  prompt = wanted.pack_prompt(
    made, given=np.broadcast_to(given, (3, num_frames, 1))
  )
  tokens = found.pack_prompt(theirs, given=torch.from_numpy(given))
  np.testing.assert_array_equal(tokens, prompt)
  assert layout.NO_CODE in found.unpack(tokens)
  np.testing.assert_array_equal(found.unpack(tokens), wanted.unpack(prompt))
  np.testing.assert_array_equal(
    found.valid_mask(tokens), wanted.valid_mask(prompt)
  )


def test_dropped_inputs_are_covered_by_null(tmp_path):
  wanted, found = both('toy', tmp_path)
  packed = wanted.pack(codes(wanted.spec))
  tokens = found.drop_inputs(torch.from_numpy(packed), streams={'clip'})
  np.testing.assert_array_equal(
    tokens,
    wanted.drop_inputs(packed, streams={'clip'}, dropped=np.ones(3, bool)),
  )
  assert (tokens.numpy() != packed).any()


def test_codes_of_another_window_are_refused(tmp_path):
  _, found = both('onward', tmp_path)
  with pytest.raises(ValueError, match="takes 3 frames of 'fast'"):
    found.pack_prompt({'fast': torch.zeros(1, 4, 4, dtype=torch.long)})
