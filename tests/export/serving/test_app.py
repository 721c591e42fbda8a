# SPDX-License-Identifier: Apache-2.0
"""Formats, limits and errors; `test_app_load` has crowds."""

import concurrent.futures
import contextlib
import io
import time
import zipfile

import numpy as np
import pytest
import soundfile
from fastapi import testclient

from musiclm_jax.export.serving import app
from musiclm_jax.export.serving.settings import Settings
from tests.export.serving import toys


@pytest.fixture
def model():
  return toys.FakeMusic()


@contextlib.contextmanager
def serving(model, **settings):
  made = app.make_app(model, settings=Settings(**settings))
  with testclient.TestClient(made) as client:
    yield client


@pytest.fixture
def client(model):
  with serving(model) as client:
    yield client


def ask(client, **fields):
  return client.post(
    '/generate', json={'prompt': 'a reel', 'seconds': 0.6, 'seed': 5} | fields
  )


def samples(content):
  pcm, rate_hz = soundfile.read(io.BytesIO(content), dtype='int16')
  assert rate_hz == toys.RATE_HZ
  return pcm


def expected(prompt='a reel', *, seconds=0.6, seed=5):
  made = toys.music(prompt, seconds=seconds, seed=seed)
  return np.round(made.numpy() * 32767).astype(np.int16)


@pytest.mark.parametrize('stream', (False, True))
@pytest.mark.parametrize('audio_format', ('wav', 'flac'))
def test_audio_of_the_prompt_and_seed(client, audio_format, stream):
  answer = ask(client, format=audio_format, stream=stream)
  assert answer.status_code == 200
  assert answer.headers['content-type'] == f'audio/{audio_format}'
  assert answer.headers['x-seed'] == '5'
  np.testing.assert_array_equal(samples(answer.content), expected())


def test_several_pieces_are_a_zip_of_files_named_by_seed(client):
  answer = ask(client, num_samples=3, format='flac')
  assert answer.headers['content-type'] == 'application/zip'
  with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
    assert archive.namelist() == ['5.flac', '6.flac', '7.flac']
    np.testing.assert_array_equal(
      samples(archive.read('6.flac')), expected(seed=6)
    )


def test_a_seeded_piece_is_the_same_alone_among_others_and_streamed(
  model, client
):
  alone = ask(client).content
  assert ask(client, stream=True).content == alone
  model.gate.clear()  # So that all are there before the next batch begins.
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    waiting = [
      pool.submit(ask, client, prompt=f'{number}', seed=number)
      for number in range(3)
    ]
    last = pool.submit(ask, client)
    time.sleep(0.2)
    model.gate.set()
    assert last.result().content == alone
    assert all(w.result().content != alone for w in waiting)
  assert any(len(set(call['prompts'])) > 1 for call in model.calls)


def test_without_a_seed_the_answer_says_which(client):
  answer = ask(client, seed=None)
  again = ask(client, seed=int(answer.headers['x-seed']))
  assert again.content == answer.content
  assert ask(client, seed=None).content != answer.content


@pytest.mark.parametrize(
  'content, status, says',
  [
    (b'{"prompt": "a reel", "seconds": 31}', 422, 'at most 30'),
    (b'{"prompt": "a reel", "bars": 8}', 422, 'bars'),
    (b'a reel', 400, 'not JSON'),
    (b'{"prompt": "' + 20_000 * b'a' + b'"}', 413, 'longer than 16384 bytes'),
  ],
)
def test_mistakes_are_named_in_one_line_of_json(client, content, status, says):
  answer = client.post('/generate', content=content)
  assert answer.status_code == status
  assert says in answer.json()['error']


def test_a_full_queue_is_503_with_a_time_to_retry(model):
  model.gate.clear()
  with (
    serving(model, tile=1, max_samples=1, max_waiting=1) as client,
    concurrent.futures.ThreadPoolExecutor(2) as pool,
  ):
    first = pool.submit(ask, client)
    _until(client, running_requests=1)
    second = pool.submit(ask, client)
    _until(client, queue_depth=1)
    refused = ask(client)
    model.gate.set()
    assert refused.status_code == 503
    assert int(refused.headers['retry-after']) >= 1
    assert 'queue is full' in refused.json()['error']
    assert first.result().status_code == second.result().status_code == 200


def test_what_takes_too_long_is_504_and_is_not_made(model):
  model.gate.clear()
  with serving(model, timeout_seconds=0.2) as client:
    assert ask(client).status_code == 504
    _until(client, status='the model does not answer')
    assert client.get('/health').status_code == 503
    model.gate.set()
    _until(client, running_requests=0, queue_depth=0)
    assert ask(client, seconds=0.25).status_code == 200


def test_a_model_that_fails_is_500_and_the_server_goes_on(model, client):
  model.fails_with = RuntimeError('secret of the inside')
  answer = ask(client)
  assert answer.status_code == 500
  assert 'secret' not in answer.text
  model.fails_with = None
  assert ask(client).status_code == 200
  assert client.get('/health').json()['status'] == 'ok'


def test_every_answer_is_counted_once(client):
  ask(client)
  ask(client, stream=True)
  ask(client, seconds=99)
  lines = client.get('/metrics').text.splitlines()
  assert 'musiclm_requests_total{status="200"} 2' in lines
  assert 'musiclm_requests_total{status="422"} 1' in lines
  assert 'musiclm_request_seconds_count 3' in lines
  assert 'musiclm_audio_seconds_total 1.200000' in lines
  assert 'musiclm_queue_depth 0' in lines


def test_the_body_is_described_for_readers_of_the_schema(client):
  routes = client.get('/openapi.json').json()['paths']
  body = routes['/generate']['post']['requestBody']['content']
  assert 'prompt' in body['application/json']['schema']['properties']


def _until(client, **state):
  for _ in range(500):
    health = client.get('/health').json()
    if all(health[name] == value for name, value in state.items()):
      return
    time.sleep(0.01)
  raise AssertionError(f'{state} wanted, {health} found')
