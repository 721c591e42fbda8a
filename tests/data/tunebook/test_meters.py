# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

import pytest

from musiclm_jax.data.tunebook import meters


@pytest.mark.parametrize(
  ('text', 'written', 'bar', 'beat', 'name'),
  [
    ('C', '4/4', 4, 1, 'quarter note'),
    ('C|', '2/2', 4, 2, 'half note'),
    ('2/4', '2/4', 2, 1, 'quarter note'),
    ('3/4', '3/4', 3, 1, 'quarter note'),
    ('6/8', '6/8', 3, Fraction(3, 2), 'dotted quarter note'),
    ('9/8', '9/8', Fraction(9, 2), Fraction(3, 2), 'dotted quarter note'),
    ('3/8', '3/8', Fraction(3, 2), Fraction(3, 2), 'dotted quarter note'),
    ('6/4', '6/4', 6, 3, 'dotted half note'),
    ('3/2', '3/2', 6, 2, 'half note'),
  ],
)
def test_a_meter_knows_its_bar_and_its_beat(
  text: str, written: str, bar: Fraction, beat: Fraction, name: str
):
  meter = meters.parse_meter(text)
  assert str(meter) == written
  assert (meter.bar_length, meter.beat_length) == (bar, beat)
  assert meter.beat_name == name


@pytest.mark.parametrize('text', ['', 'none', '6', '4/3', '2/4 3/4'])
def test_what_is_no_meter_is_an_error(text: str):
  with pytest.raises(ValueError, match='is not a meter'):
    meters.parse_meter(text)
