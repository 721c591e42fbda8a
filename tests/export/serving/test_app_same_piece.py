# SPDX-License-Identifier: Apache-2.0
"""A seeded piece of a real model, served alone and among others."""

import concurrent.futures
import io
import zipfile

import pytest
from fastapi import testclient

from musiclm_jax.export.pytorch import MusicLM, decoding
from musiclm_jax.export.serving import app
from musiclm_jax.export.serving.settings import Settings
from tests.export import whole

pytestmark = pytest.mark.slow

# More than the 16 rows that stages decode at a time unless they are told.
TILE = 17


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  directory = tmp_path_factory.mktemp('same_piece')
  whole.publish(directory / 'model')
  whole.export(directory / 'model', directory / 'out')
  return directory / 'out'


def ask(client, number, **fields):
  body = {
    'prompt': whole.PROMPTS[number % 2],
    'seed': 10 * number,
    'seconds': 1.4,
    'num_samples': 4,
    **fields,
  }
  answer = client.post('/generate', json=body)
  assert answer.status_code == 200, answer.text
  return answer.content


def test_four_requests_are_the_same_alone_together_and_streamed(
  exported, monkeypatch
):
  sizes, rows_of = set(), decoding.StageDecoder._decode

  def noting(self, tokens, *arguments, **options):
    sizes.add(len(tokens))
    return rows_of(self, tokens, *arguments, **options)

  monkeypatch.setattr(decoding.StageDecoder, '_decode', noting)
  # 16 of 17 rows, so a batch waits for more and is filled up then.
  settings = Settings(tile=TILE, batch_wait_seconds=0.5)
  model = MusicLM.from_pretrained(exported)
  with (
    testclient.TestClient(app.make_app(model, settings=settings)) as client,
    concurrent.futures.ThreadPoolExecutor(4) as pool,
  ):
    alone = [ask(client, number) for number in range(4)]
    together = list(pool.map(ask, [client] * 4, range(4)))
    one, streamed = (
      ask(client, 3, num_samples=1, stream=stream) for stream in (False, True)
    )
    metrics = client.get('/metrics').text.splitlines()
  assert 'musiclm_batch_rows_bucket{le="16"} 7' in metrics
  assert 'musiclm_batch_rows_bucket{le="8"} 6' in metrics
  assert len(set(alone)) == 4
  assert together == alone
  assert streamed == one
  with zipfile.ZipFile(io.BytesIO(alone[3])) as pieces:
    assert pieces.read('30.wav') == one
  # The first coarse window has two fine ones, decoded as one batch.
  assert sizes == {decoding.bucket(TILE), decoding.bucket(2 * TILE)}
