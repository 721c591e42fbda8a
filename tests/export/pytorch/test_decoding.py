# SPDX-License-Identifier: Apache-2.0
"""Rows through the decoder: what a row depends on, and on nothing else."""

import dataclasses

import pytest
import torch

from musiclm_jax.export.pytorch import sampling
from musiclm_jax.export.pytorch.decoding import StageDecoder, bucket
from musiclm_jax.inference import rows as jax_rows


@pytest.fixture(scope='module')
def decoder(exported):
  return StageDecoder(
    model=exported.stages['coarse'],
    index=1,
    sampler=sampling.Sampler(1.0),
    guidance=None,
    dropped=frozenset({'mulan'}),
    max_rows=16,
  )


def prompts(decoder, num_rows):
  """Rows without an output, whose first code tells them apart."""
  layout = decoder.model.layout
  codes = {
    segment.stream.name: torch.zeros(
      num_rows,
      segment.num_frames,
      segment.stream.num_codebooks,
      dtype=torch.long,
    )
    for segment in layout.segments
  }
  codes['mulan'][:, 0, 0] = torch.arange(num_rows)
  return layout.pack_prompt(codes)


@torch.no_grad()
def decode(decoder, tokens, *, rows=None, seeds=None, **options):
  rows = torch.arange(len(tokens)) if rows is None else rows
  return decoder.decode(
    tokens[rows],
    seeds=(100 + torch.arange(len(tokens)) if seeds is None else seeds)[rows],
    places=torch.zeros(len(rows), dtype=torch.long),
    **options,
  )


def test_a_row_depends_on_neither_mates_nor_slot_nor_group(decoder):
  tokens = prompts(decoder, 5)
  together = decode(decoder, tokens)
  assert len({tuple(row) for row in together.tolist()}) == 5
  turned = torch.tensor([3, 1, 4])
  assert torch.equal(decode(decoder, tokens, rows=turned), together[turned])
  by_two = dataclasses.replace(decoder, max_rows=2)
  assert torch.equal(decode(by_two, tokens), together)


def test_groups_of_rows_are_of_one_size(decoder, monkeypatch):
  sizes, rows_of = [], StageDecoder._decode

  def noting(self, tokens, *arguments, **options):
    sizes.append(len(tokens))
    return rows_of(self, tokens, *arguments, **options)

  monkeypatch.setattr(StageDecoder, '_decode', noting)
  by_five = dataclasses.replace(decoder, max_rows=5)
  made = decode(by_five, prompts(decoder, 13), num_frames=1)
  # 5, 4 and 4 rows; a bucket of 4 might round unlike one of 6.
  assert sizes == [6, 6, 6] and len(made) == 13


def test_every_code_is_legal_and_the_prompt_stays(decoder):
  tokens = prompts(decoder, 2)
  made = decode(decoder, tokens)
  layout = decoder.model.layout
  codes = layout.unpack(made)
  assert codes.min() >= 0 and len(codes.unique()) > 3
  given = tokens != layout.pad_id
  assert torch.equal(made[given], tokens[given])


def test_given_codes_are_kept_and_may_be_read_with_the_prompt(decoder):
  tokens = prompts(decoder, 2)
  made = decode(decoder, tokens)
  output = decoder.model.layout.output
  begun, stop = made.clone(), output.start + 3 * len(output.levels)
  begun[:, stop:] = decoder.model.layout.pad_id
  for options in ({}, {'num_prefilled_frames': 3}):
    assert torch.equal(decode(decoder, begun, **options), made)


def test_fewer_frames_are_the_beginning_of_more(decoder):
  tokens = prompts(decoder, 2)
  output = decoder.model.layout.output
  stop = output.start + 4 * len(output.levels)
  some = decode(decoder, tokens, num_frames=4)
  assert torch.equal(some[:, :stop], decode(decoder, tokens)[:, :stop])
  assert (some[:, stop:] == decoder.model.layout.pad_id).all()


def test_a_guidance_of_1_is_none_and_of_more_is_heard(decoder):
  tokens = prompts(decoder, 3)
  plain = decode(decoder, tokens)
  one, nine = (
    decode(dataclasses.replace(decoder, guidance=scale), tokens)
    for scale in (1.0, 9.0)
  )
  assert torch.equal(one, plain)
  assert not torch.equal(nine, plain)


def test_seed_stage_and_place_tell_draws_apart(decoder):
  tokens = prompts(decoder, 1).repeat(2, 1)
  same = torch.tensor([4, 4])
  first = decode(decoder, tokens, seeds=same)
  assert torch.equal(first[0], first[1])
  other = dataclasses.replace(decoder, index=2)
  assert not torch.equal(decode(other, tokens, seeds=same), first)
  with torch.no_grad():
    placed = decoder.decode(tokens, seeds=same, places=torch.tensor([0, 7]))
  assert torch.equal(placed[0], first[0])
  assert not torch.equal(placed[1], first[1])


def test_buckets_are_those_of_jax():
  assert [bucket(n) for n in range(1, 33)] == (
    [jax_rows.bucket(n) for n in range(1, 33)]
  )
