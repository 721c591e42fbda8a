# SPDX-License-Identifier: Apache-2.0
import types

import jax

from musiclm_jax.planning import abstract, utilization
from musiclm_jax.planning.devices import CHIPS
from musiclm_jax.planning.plan import Planner
from tests.planning import toys


def test_a_run_is_held_to_the_flops_of_its_plan(monkeypatch):
  run = toys.stage_run()
  device = types.SimpleNamespace(device_kind='TPU v5 lite')
  monkeypatch.setattr(jax, 'devices', lambda: [device])
  seconds = utilization.seconds_at_peak(
    abstract.with_remat(run.training, remat=True), run.batch
  )
  assert seconds * CHIPS['v5e'].flops_per_second == (Planner(run).useful_flops)


def test_fused_attention_has_the_useful_flops_of_the_other():
  run = toys.stage_run()
  fused = abstract.with_fields(
    run.training, dtype='bfloat16', attention='cudnn'
  )
  assert utilization.useful_flops(fused, run.batch) == utilization.useful_flops(
    run.training, run.batch
  )


def test_no_figure_is_worth_a_run(monkeypatch, caplog):
  device = types.SimpleNamespace(device_kind='TPU v5 lite')
  monkeypatch.setattr(jax, 'devices', lambda: [device])
  run = toys.stage_run()
  batch = {'codes/other': run.batch[next(iter(run.batch))]}
  assert utilization.seconds_at_peak(run.training, batch) is None
  assert 'There is no MFU: ' in caplog.text


def test_no_peak_is_made_up_for_a_device_that_is_not_known(caplog):
  run = toys.stage_run()
  with caplog.at_level('INFO'):
    assert utilization.seconds_at_peak(run.training, run.batch) is None
  assert "no MFU: the peak rate of 'cpu' is not known" in caplog.text
