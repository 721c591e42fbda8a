# SPDX-License-Identifier: Apache-2.0
import dataclasses
import fractions

import pytest

from musiclm_jax.inference.cascade import Cascade
from tests.inference import toys
from tests.inference.silent import SPECS, stages


def test_a_tick_is_a_whole_number_of_frames_of_both_streams():
  cascade = Cascade(**stages(SPECS))
  assert cascade.tick_seconds == fractions.Fraction(1, 5)
  assert cascade.ticks('0.2') == 1
  assert cascade.ticks('0.21') == 2
  assert cascade.num_levels == 5
  assert cascade.condition_names == {'mulan'}


def other(stream, **changes):
  return dataclasses.replace(stream, **changes)


@pytest.mark.parametrize(
  'changes, match',
  [
    ({'fine': {'num_coarse_levels': 3}}, 'coarse stage makes 2 levels'),
    ({'semantic': {'window_seconds': '0.2'}}, 'two or more times 1/5 s'),
    (
      {'semantic': {'semantic': other(toys.SEMANTIC, fingerprint='a')}},
      "fingerprint None .wanted. / a .got.*Train stage 'coarse'",
    ),
    (
      {'fine': {'acoustic': other(toys.CODEC.stream, name='noise')}},
      "'fine' reads .'noise'. and not 'acoustic'",
    ),
  ],
)
def test_stages_that_do_not_fit_together_are_an_error(changes, match):
  makers = {
    'semantic': (
      toys.semantic_stage,
      {
        'conditions': [toys.MULAN],
        'semantic': toys.SEMANTIC,
        'window_seconds': 6,
      },
    ),
    'fine': (
      toys.fine.fine,
      {
        'acoustic': toys.CODEC.stream,
        'num_coarse_levels': 2,
        'window_seconds': '1.4',
      },
    ),
  }
  specs = {spec.name: spec for spec in SPECS}
  for name, change in changes.items():
    make, settings = makers[name]
    specs[name] = make(**(settings | change))
  with pytest.raises(ValueError, match=match):
    Cascade(**stages(specs.values()))


def test_no_rows_at_a_time_are_an_error():
  with pytest.raises(ValueError, match='at least 1'):
    Cascade(**stages(SPECS), max_rows=0)


def test_stages_that_disagree_on_repeats_are_refused():
  semantic, coarse, fine = SPECS
  runs = dataclasses.replace(semantic.output, distinct_share='1/2')
  with_runs = dataclasses.replace(semantic, output=runs)
  with pytest.raises(ValueError, match='removed in one stage and not in the'):
    Cascade(**stages((with_runs, coarse, fine)))
  clip, _ = coarse.inputs
  reads_runs = dataclasses.replace(coarse, inputs=(clip, runs))
  with pytest.raises(ValueError, match='in the coarse stage and not in the'):
    Cascade(**stages((semantic, reads_runs, fine)))
  Cascade(**stages((with_runs, reads_runs, fine)))
