# SPDX-License-Identifier: Apache-2.0
"""Configs come back from JSON equal, or fail with a line that helps."""

import dataclasses
import enum
import fractions
import json

import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.checkpoints import config_json
from musiclm_jax.streams import TokenStream


class Padding(enum.Enum):
  CAUSAL = 'causal'
  SAME = 'same'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
  width: int
  dtype: object = jnp.bfloat16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
  strides: tuple[int, ...]
  inner: Inner
  blocks: tuple[Inner, ...] = ()
  rate_hz: fractions.Fraction = fractions.Fraction(50, 3)
  decay: float = 0.1
  padding: Padding = Padding.CAUSAL
  weights: dict = dataclasses.field(default_factory=dict)
  note: str | None = None


def round_trip(config):
  return config_json.from_json(
    json.loads(json.dumps(config_json.to_json(config)))
  )


def test_a_nested_config_comes_back_equal_and_of_the_same_types():
  config = Outer(
    strides=(3, 5),
    inner=Inner(width=7),
    blocks=(Inner(width=11, dtype=np.dtype('float32')), Inner(width=13)),
    decay=1 / 3,
    padding=Padding.SAME,
    weights={'mel': 1e-7},
  )
  back = round_trip(config)
  assert back == config
  assert isinstance(back.strides, tuple)
  assert isinstance(back.rate_hz, fractions.Fraction)
  assert back.inner.dtype == jnp.bfloat16
  assert back.padding is Padding.SAME


def test_a_token_stream_inside_a_config_comes_back_equal():
  stream = TokenStream(
    name='acoustic',
    rate_hz=fractions.Fraction(50, 3),
    num_codebooks=3,
    codebook_size=7,
  )
  assert round_trip((stream, None, True)) == (stream, None, True)


@pytest.mark.parametrize('value', [0.1, 1e-300, 5, True, 'text', None])
def test_scalars_come_back_with_their_type(value):
  back = round_trip(value)
  assert back == value and type(back) is type(value)


def test_a_list_is_refused_with_the_field_it_is_in():
  config = Outer(strides=[3, 5], inner=Inner(width=7))
  with pytest.raises(ValueError, match=r'config\.strides is a list.*tuple'):
    config_json.to_json(config)


def test_a_function_is_refused_with_the_field_it_is_in():
  with pytest.raises(ValueError, match=r'config\.inner\.dtype is a function'):
    config_json.to_json(
      Outer(strides=(3,), inner=Inner(width=7, dtype=round_trip))
    )


def test_not_a_number_is_refused():
  with pytest.raises(ValueError, match='config.decay is nan'):
    config_json.to_json(
      Outer(strides=(3,), inner=Inner(width=7), decay=float('nan'))
    )


def test_a_class_inside_a_function_is_refused_when_written():
  @dataclasses.dataclass(frozen=True)
  class Local:
    width: int = 3

  with pytest.raises(ValueError, match='no other program can import'):
    config_json.to_json(Local())


def test_a_class_that_cannot_be_imported_is_named_with_the_remedy():
  written = {'$class': 'no_such_package.codec:Config', 'width': 3}
  with pytest.raises(ValueError, match=r'no_such_package.*PYTHONPATH'):
    config_json.from_json(written)


def test_an_unknown_field_is_named_beside_those_that_exist():
  written = config_json.to_json(Inner(width=7)) | {'depth': 3}
  with pytest.raises(ValueError, match=r"\['depth'\].*'dtype', 'width'"):
    config_json.from_json(written)


def test_a_missing_field_without_default_is_named():
  written = config_json.to_json(Inner(width=7))
  del written['width']
  with pytest.raises(ValueError, match=r"needs \['width'\]"):
    config_json.from_json(written)


def test_a_field_that_is_newer_than_the_file_takes_its_default():
  written = config_json.to_json(Inner(width=7, dtype=jnp.float32))
  del written['dtype']
  assert config_json.from_json(written) == Inner(width=7)


def test_only_config_dataclasses_are_built():
  written = {'$class': 'subprocess:Popen', 'args': 'true'}
  with pytest.raises(ValueError, match='not a config dataclass'):
    config_json.from_json(written)


def test_canonical_json_does_not_depend_on_the_order_of_keys():
  first = config_json.canonical_json({'b': 1, 'a': {'d': 2, 'c': 3}})
  second = config_json.canonical_json({'a': {'c': 3, 'd': 2}, 'b': 1})
  assert first == second == '{"a":{"c":3,"d":2},"b":1}'
