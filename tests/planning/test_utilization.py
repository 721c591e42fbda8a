# SPDX-License-Identifier: Apache-2.0
import dataclasses
import types

import jax

from musiclm_jax.mulan.objective import MulanObjective
from musiclm_jax.planning import abstract, cost, program, utilization
from musiclm_jax.planning.devices import CHIPS
from musiclm_jax.planning.plan import Planner
from musiclm_jax.training import optimizers
from musiclm_jax.training.step import Training
from tests.mulan import toys as mulan
from tests.planning import toys


def test_a_run_is_held_to_the_flops_of_its_plan(monkeypatch):
  run = toys.stage_run()
  device = types.SimpleNamespace(device_kind='TPU v5 lite')
  monkeypatch.setattr(jax, 'devices', lambda: [device])
  seconds = utilization.seconds_at_peak(
    abstract.with_remat(run.training, remat=True), run.batch
  )
  assert seconds * CHIPS['v5e'].flops_per_second == (Planner(run).useful_flops)


def test_fused_attention_is_planned_as_the_other():
  run = toys.stage_run(remat=True)
  fused = dataclasses.replace(
    run,
    training=abstract.with_fields(
      run.training, dtype='bfloat16', attention='cudnn'
    ),
  )
  plan = Planner(fused).plan()
  assert plan.flops_per_step == Planner(run).useful_flops
  assert utilization.useful_flops(fused.training, run.batch) == (
    plan.flops_per_step
  )


def test_towers_that_take_rows_in_parts_are_traced_whole():
  training = Training(
    objective=MulanObjective(model=mulan.config(), tower_rows=2, block_rows=2),
    optimizer=optimizers.adam(learning_rate=1e-3),
  )
  batch = abstract.with_rows(mulan.batch(1), num_rows=4)
  whole = abstract.with_fields(training, tower_rows=None, block_rows=None)
  parted, plain = (
    utilization.traced_step(each, batch, remat=False, num_microbatches=1)
    for each in (training, whole)
  )
  split = program.Split(num_rows=4)
  assert cost.flops(parted, split) == cost.flops(plain, split) > 0


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
