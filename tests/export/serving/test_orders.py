# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from musiclm_jax.export.serving import orders
from musiclm_jax.export.serving.settings import Settings

SETTINGS = Settings(max_prompt_characters=11, max_seconds=13.0, max_samples=3)


def read(**fields):
  content = json.dumps({'prompt': 'a reel', **fields}).encode()
  return orders.read(content, settings=SETTINGS)


def test_an_order_has_a_seed_for_each_piece():
  order = read(seed=7, num_samples=3, guidance=2.5, seconds=11).order()
  assert order.seeds == (7, 8, 9)
  assert (order.prompt, order.seconds, order.guidance) == ('a reel', 11.0, 2.5)


def test_without_a_seed_each_order_has_its_own():
  body = read(num_samples=2)
  drawn = {body.order().seeds for _ in range(5)}
  assert len(drawn) == 5
  assert all(second == first + 1 for first, second in drawn)


def test_a_sample_that_is_begun_counts():
  assert read(seconds=0.3).length(sample_rate_hz=10) == 3  # not 4, as floats
  assert read(seconds=0.31).length(sample_rate_hz=10) == 4


@pytest.mark.parametrize(
  'fields, says',
  [
    ({'prompt': '  '}, 'prompt: say in words'),
    ({'prompt': 'twelve chars'}, 'prompt: 12 characters .* at most 11'),
    ({'prompt': 3}, 'prompt: .*string'),
    ({'seconds': 0}, 'seconds: .*greater than 0'),
    ({'seconds': 13.5}, 'seconds: 13.5 .* at most 13'),
    ({'seconds': '5'}, 'seconds: .*number'),
    ({'num_samples': 4}, 'num_samples: 4 .* at most 3'),
    ({'num_samples': 0}, 'num_samples: .*greater than or equal to 1'),
    ({'seed': -1}, 'seed: '),
    ({'seed': 2**32 - 1, 'num_samples': 2}, 'seed: .*goes beyond'),
    ({'guidance': -1}, 'guidance: '),
    ({'guidance': 1e9}, 'guidance: .*less than or equal to 100'),
    ({'format': 'mp3'}, "format: .*'wav' or 'flac'"),
    ({'stream': True, 'num_samples': 2}, 'stream: one piece'),
    ({'tempo': 120}, 'tempo: '),
  ],
)
def test_what_is_not_allowed_is_named(fields, says):
  with pytest.raises(orders.Refused, match=says) as caught:
    read(**fields)
  assert caught.value.status == 422
  assert '\n' not in caught.value.message


def test_no_prompt_and_no_json():
  with pytest.raises(orders.Refused, match='prompt: Field required'):
    orders.read(b'{}', settings=SETTINGS)
  with pytest.raises(orders.Refused, match='not JSON') as caught:
    orders.read(b'{"prompt"', settings=SETTINGS)
  assert caught.value.status == 400
