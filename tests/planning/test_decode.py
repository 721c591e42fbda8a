# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from musiclm_jax.data.silence import SilentEncoder
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.planning import decode, devices
from musiclm_jax.planning.devices import Topology
from musiclm_jax.stages import coarse, fine, lm, semantic
from musiclm_jax.stages.objective import StageObjective
from tests.planning import toys

MULAN, SEMANTIC, ACOUSTIC = SilentEncoder.streams
SPECS = {
  'semantic': semantic.semantic(conditions=(MULAN,), semantic=SEMANTIC),
  'coarse': coarse.coarse(
    conditions=(MULAN,), semantic=SEMANTIC, acoustic=ACOUSTIC
  ),
  'fine': fine.fine(acoustic=ACOUSTIC),
}


def decoding(stage, topology):
  body = TransformerConfig(
    num_layers=24, num_heads=16, embed_dim=1024, mlp_dim=4096, scan_layers=True
  )
  model = lm.StageLMConfig(spec=SPECS[stage], transformer=body)
  return decode.plan(
    StageObjective(model=model), topology=Topology.parse(topology)
  )


@pytest.mark.parametrize(
  ('stage', 'num_steps', 'step', 'cache_mb', 'batch'),
  [
    # By hand: 807 MB of weights and 96 KiB a position at 3.35 TB/s.
    ('semantic', 750, 252e-6, 74.9, 944),
    ('coarse', 2000, 278e-6, 222.4, 319),
    ('fine', 1200, 276e-6, 176.9, 401),
  ],
)
def test_the_stages_of_the_paper_decode_as_fast_as_an_h100_reads(
  stage, num_steps, step, cache_mb, batch
):
  found = decoding(stage, 'h100:1')
  assert found.num_steps == num_steps
  assert found.step_seconds == pytest.approx(step, rel=0.01)
  assert found.cache_bytes / 1e6 == pytest.approx(cache_mb, rel=0.01)
  # Nine tenths of 80 GB, less the weights.
  assert found.max_batch == batch
  assert found.real_time_factor == pytest.approx(
    found.window_seconds / (num_steps * step), rel=0.01
  )


def test_all_rows_of_all_chips_count():
  one, four = decoding('fine', 'v5e:1x1'), decoding('fine', 'v5e:2x2')
  assert four.topology_real_time_factor == pytest.approx(
    4 * one.topology_real_time_factor
  )
  assert 'rows of a chip' in four.page()
  assert four.to_json()['real_time_factor'] == four.real_time_factor


def test_what_does_not_fit_a_chip_is_refused(monkeypatch):
  small = dataclasses.replace(devices.CHIPS['v5e'], memory_bytes=0.9e9)
  monkeypatch.setitem(devices.CHIPS, 'v5e', small)
  with pytest.raises(ValueError, match='do not fit a chip of v5e:2x2'):
    decoding('coarse', 'v5e:2x2')


def test_only_a_stage_is_decoded():
  with pytest.raises(
    ValueError, match='SoundStreamObjective generates nothing'
  ):
    decode.plan(
      toys.codec_training().objective, topology=Topology.parse('v5e:2x2')
    )
