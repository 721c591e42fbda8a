# SPDX-License-Identifier: Apache-2.0
"""The stage's model: logits of JAX, a cache that alters nothing, half types."""

import json

import numpy as np
import pytest
import torch

from musiclm_jax.checkpoints import bundle
from musiclm_jax.export import naming
from musiclm_jax.export.pytorch import StageLM
from tests.export import whole
from tests.stages import toys

KINDS = {
  'relative': {'num_buckets': 6, 'max_distance': 11},
  'aligned': {'position': 'aligned', 'num_buckets': 6, 'max_distance': 11},
  'rotary': {'position': 'rotary', 'head_dim': 6},
}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  return {
    kind: whole.export_component(
      whole.stage(toys.SPEC, **sizes), tmp_path_factory.mktemp(kind)
    )
    for kind, sizes in KINDS.items()
  }


def rows(*, seed=0):
  """Two rows, the second of a clip that ends early."""
  masks = {'slow': np.arange(6)[None] < [[6], [4]]}
  return toys.config().layout.pack(toys.codes(2, seed=seed), frame_masks=masks)


def logits(model, tokens):
  with torch.no_grad():
    return model(torch.from_numpy(tokens).long())


@pytest.mark.parametrize('kind', KINDS)
def test_logits_are_those_of_jax(folders, kind):
  found = bundle.load(folders[kind].parent / 'bundle')
  tokens = rows()
  wanted = toys.forward(found.config, found.weights['params'], tokens)
  made = logits(StageLM.from_pretrained(folders[kind]), tokens)
  assert made.shape == (2, 12, 2, 11) and made.std() > 0.1
  np.testing.assert_allclose(made, wanted, atol=2e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_steps_with_a_cache_are_the_whole_row_at_once(folders, kind):
  model = StageLM.from_pretrained(folders[kind])
  tokens = torch.from_numpy(rows()[:1]).long()
  output = model.layout.output
  # A host may have more room than a row takes.
  first, capacity = output.start - 1, model.layout.length + 3
  cache = model.new_cache(1, capacity=capacity)
  # What is beyond the position is not read.
  cache.fill_(99.0)
  made = []
  with torch.no_grad():
    model.prefill(tokens[:, :first], cache=cache)
    for now in range(first, output.stop - 1):
      position = torch.tensor([now])
      made.append(model.step(tokens[:, now], cache=cache, position=position))
  whole_row = logits(model, tokens.numpy()).flatten(1, 2)
  torch.testing.assert_close(
    torch.stack(made, dim=1), whole_row, atol=1e-5, rtol=0
  )


def test_a_code_changes_what_follows_and_nothing_before(folders):
  model = StageLM.from_pretrained(folders['relative'])
  before = rows()
  after = before.copy()
  position = model.layout.output.start + 7
  after[:, position] = model.layout.output.first_ids[1] + (
    (after[:, position] - model.layout.output.first_ids[1] + 1) % 11
  )
  one, other = (
    logits(model, tokens).flatten(1, 2) for tokens in (before, after)
  )
  torch.testing.assert_close(one[:, :8], other[:, :8], atol=1e-6, rtol=0)
  assert (one[:, 8:] - other[:, 8:]).abs().amax(dim=-1).min() > 1e-4


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_types_are_near(folders, dtype):
  whole_type, half = (
    StageLM.from_pretrained(folders['relative'], dtype=kind)
    for kind in (torch.float32, dtype)
  )
  assert half.inputs.weight.dtype == dtype
  found = logits(half, rows())
  assert found.dtype == torch.float32
  wanted = logits(whole_type, rows())
  error = (found - wanted).abs().max() / wanted.abs().max()
  assert 0 < error < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
  'kind, backend, dtype',
  [
    ('relative', 'aot_eager', torch.float32),
    ('aligned', 'inductor', torch.float32),
    ('rotary', 'inductor', torch.float32),
    ('relative', 'inductor', torch.bfloat16),
  ],
)
def test_one_step_is_one_graph_for_every_position(
  folders, kind, backend, dtype
):
  model = StageLM.from_pretrained(folders[kind], dtype=dtype)
  compiled = torch.compile(model.step, backend=backend, fullgraph=True)
  tokens = torch.tensor([3, 4])
  counted = torch._dynamo.utils.counters
  counted.clear()
  caches = [model.new_cache(2, capacity=9) for _ in range(2)]
  with torch.no_grad():
    for now in range(4):
      position = torch.tensor([now])
      made = [
        step(tokens, cache=cache, position=position)
        for step, cache in zip((compiled, model.step), caches)
      ]
      # Inductor keeps sums in float32 where eager rounds them.
      bound = 1e-5 if dtype == torch.float32 else 0.05
      torch.testing.assert_close(*made, rtol=0, atol=bound)
      assert made[0].std() > 0.1
  assert counted['stats']['unique_graphs'] == 1


def test_fewer_or_other_weights_are_refused(folders, tmp_path):
  for name in ('config.json', 'model.safetensors'):
    (tmp_path / name).write_bytes((folders['relative'] / name).read_bytes())
  config = json.loads((tmp_path / 'config.json').read_text())
  config['config']['transformer']['num_layers'] = 3
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match='does not fit its config.json'):
    StageLM.from_pretrained(tmp_path)


def test_names_read_as_in_pytorch(folders):
  model = StageLM.from_pretrained(folders['relative'])
  found = bundle.load(folders['relative'].parent / 'bundle')
  assert model.state_dict().keys() == (
    naming.to_state_dict(found.weights, kind='stage').keys()
  )
  assert 'transformer.layers.1.attention.out.weight' in model.state_dict()
