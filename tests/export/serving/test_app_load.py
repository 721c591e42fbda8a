# SPDX-License-Identifier: Apache-2.0
"""Crowds before a real server, on loopback, with a model of known speed."""

import asyncio
import collections
import contextlib
import pathlib
import resource
import threading
import time

import httpx2
import numpy as np
import pytest
import uvicorn

from musiclm_jax.export.serving import app, audio_file
from musiclm_jax.export.serving.settings import Settings
from tests.export.serving import toys

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def serving(model, **settings):
  """A server in a thread; gives its address."""
  settings = Settings(**settings)
  config = uvicorn.Config(
    app.make_app(model, settings=settings),
    port=0,
    log_level='critical',
    timeout_graceful_shutdown=settings.stop_seconds,
  )
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run)
  thread.start()
  try:
    while not server.started:
      time.sleep(0.01)
    (socket,) = server.servers[0].sockets
    yield f'http://127.0.0.1:{socket.getsockname()[1]}'
  finally:
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def request(number, *, seconds=0.5, **fields):
  return {
    'prompt': f'tune {number % 7}',
    'seed': number,
    'seconds': seconds,
  } | fields


def expected(body):
  made = toys.music(body['prompt'], seconds=body['seconds'], seed=body['seed'])
  return audio_file.whole(made, audio_format='wav', sample_rate_hz=toys.RATE_HZ)


async def ask(client, body):
  started = time.perf_counter()
  answer = await client.post('/generate', json=body)
  return answer, time.perf_counter() - started


def crowd(url, bodies, *, at_once, every_seconds=0.0):
  """All answers, and the seconds that each took."""

  async def run():
    places = asyncio.Semaphore(at_once)
    limits = httpx2.Limits(max_connections=at_once)
    async with httpx2.AsyncClient(
      base_url=url, limits=limits, timeout=60
    ) as client:

      async def one(number, body):
        await asyncio.sleep(number * every_seconds)
        async with places:
          return await ask(client, body)

      return await asyncio.gather(*map(one, range(len(bodies)), bodies))

  return asyncio.run(run())


def metric(url, name):
  for line in httpx2.get(f'{url}/metrics').text.splitlines():
    if line.startswith(f'musiclm_{name} '):
      return float(line.split()[1])
  return 0.0


def resident_bytes():
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return pages * resource.getpagesize()


def test_a_crowd_loses_nothing_and_each_hears_its_own():
  bodies = [
    request(n, seconds=(0.25, 0.5, 0.75)[n % 3], stream=n % 5 == 0)
    for n in range(300)
  ]
  model = toys.FakeMusic(seconds_per_part=0.002)
  with serving(model, max_waiting=64) as url:
    answers = crowd(url, bodies, at_once=32)
    assert [answer.status_code for answer, _ in answers] == [200] * 300
    for body, (answer, _) in zip(bodies, answers):
      assert answer.content == expected(body)
    assert metric(url, 'requests_total{status="200"}') == 300
    assert metric(url, 'request_seconds_count') == 300
    num_batches = metric(url, 'batch_rows_count')
    assert metric(url, 'batch_rows_sum') == 300
  # Batches did form, and all of them had one shape.
  assert num_batches < 200
  assert {len(call['prompts']) for call in model.calls} == {4}


def test_memory_is_flat():
  model = toys.FakeMusic()
  bodies = [request(n, seconds=30.0) for n in range(60)]
  with serving(model, max_waiting=64) as url:
    for _ in range(3):  # Until each thread has its arena.
      crowd(url, bodies, at_once=8)
    model.calls.clear()
    before = resident_bytes()
    for _ in range(5):
      answers = crowd(url, bodies, at_once=8)
      assert {answer.status_code for answer, _ in answers} == {200}
      num_bytes = sum(len(answer.content) for answer, _ in answers)
      del answers
    grown = resident_bytes() - before
  # What was sent since would show, and more than once.
  assert 5 * num_bytes > 140e6
  assert grown < 30e6, f'{grown / 1e6:.1f} MB more'


def test_overload_is_refused_at_once_and_the_accepted_are_made_in_time():
  # Lengths that share no batch: a second of a batch's audio takes 0.8 s, so 4
  # of 0.5 s take 0.4 s and 10 requests a second can be made at most, and four
  # times as many come. There is room for all of them, but not the time.
  model = toys.FakeMusic(seconds_per_part=0.2)
  bodies = [request(n, seconds=(0.25, 0.5, 0.75)[n % 3]) for n in range(160)]
  with serving(model, max_waiting=160, timeout_seconds=3.0) as url:
    answers = crowd(url, bodies, at_once=160, every_seconds=1 / 40)
    made = metric(url, 'audio_seconds_total')
  statuses = collections.Counter(answer.status_code for answer, _ in answers)
  accepted = [took for answer, took in answers if answer.status_code == 200]
  refused = [
    (answer, took) for answer, took in answers if answer.status_code == 503
  ]
  figures = (
    f'{dict(statuses)}; seconds of the accepted: median'
    f' {np.median(accepted):.2f}, most {max(accepted):.2f}; of the refused:'
    f' median {np.median([took for _, took in refused]):.3f}'
  )
  print(figures)
  # Nobody is taken in and then left without an answer.
  assert set(statuses) == {200, 503} and sum(statuses.values()) == 160, figures
  assert all(int(answer.headers['retry-after']) >= 1 for answer, _ in refused)
  wanted = sum(
    body['seconds']
    for body, (answer, _) in zip(bodies, answers)
    if answer.status_code == 200
  )
  assert made == pytest.approx(wanted)
  assert np.median([took for _, took in refused]) < 0.5, figures
  # It was busy all the time: 4 s of arrivals, and the queue.
  assert statuses[200] >= 32, figures


def test_clients_that_go_away_free_their_places():
  model = toys.FakeMusic()
  model.gate.clear()

  patience = httpx2.Timeout(30, read=0.3)

  async def impatient(url):
    async with httpx2.AsyncClient(base_url=url, timeout=patience) as client:
      with pytest.raises(httpx2.ReadTimeout):
        await client.post('/generate', json=request(0, seconds=30.0))

  async def all_impatient(url):
    await asyncio.gather(*(impatient(url) for _ in range(6)))

  with serving(model, max_waiting=6) as url:
    asyncio.run(all_impatient(url))
    _until(lambda: metric(url, 'requests_total{status="499"}') == 6)
    assert metric(url, 'queue_depth') == metric(url, 'running_requests') == 0
    model.gate.set()
    num_parts = model.num_parts
    ((answer, _),) = crowd(url, [request(5)], at_once=1)
    assert answer.content == expected(request(5))
  # Of the 120 parts that were wanted at first, hardly any was made.
  assert model.num_parts - num_parts < 10


def test_a_stream_that_is_left_ends_its_batch():
  model = toys.FakeMusic(seconds_per_part=0.02)
  with serving(model) as url:
    body = request(3, seconds=30.0, stream=True)
    with httpx2.stream('POST', f'{url}/generate', json=body) as answer:
      begun = next(answer.iter_raw())
      assert begun == expected(body)[: len(begun)]
    _until(lambda: metric(url, 'requests_total{status="499"}') == 1)
    _until(lambda: metric(url, 'batch_rows_count') == 1)
  assert model.num_parts < 60


def test_a_stream_that_fails_has_no_end():
  model = toys.FakeMusic(seconds_per_part=0.02)
  with serving(model) as url:
    body = request(3, seconds=5.0, stream=True)
    with (
      pytest.raises(httpx2.RemoteProtocolError),
      httpx2.stream('POST', f'{url}/generate', json=body) as answer,
    ):
      parts = answer.iter_raw()
      next(parts)
      model.fails_with = RuntimeError('out of memory')
      list(parts)
    _until(lambda: metric(url, 'requests_total{status="500"}') == 1)


def test_whoever_waits_is_still_served_when_it_stops():
  model = toys.FakeMusic(seconds_per_part=0.1)
  answers = []
  with serving(model, tile=1, max_samples=1) as url:
    thread = threading.Thread(
      target=lambda: answers.extend(
        crowd(url, [request(n) for n in range(3)], at_once=3)
      )
    )
    thread.start()
    _until(lambda: metric(url, 'queue_depth') == 2)
  thread.join(10)
  assert [answer.status_code for answer, _ in answers] == [200] * 3


def test_whoever_is_not_served_in_time_when_it_stops_is_told():
  model = toys.FakeMusic()
  model.gate.clear()
  answers = []
  with serving(model, tile=1, max_samples=1, stop_seconds=1) as url:
    thread = threading.Thread(
      target=lambda: answers.extend(
        crowd(url, [request(n) for n in range(2)], at_once=2)
      )
    )
    thread.start()
    _until(lambda: metric(url, 'queue_depth') == 1)
  thread.join(10)
  model.gate.set()
  for answer, took in answers:
    assert answer.status_code == 503
    assert answer.json() == {'error': 'The server stops.'}
    assert int(answer.headers['retry-after']) >= 1
    assert 1 <= took < 5
  assert len(answers) == 2


def _until(holds):
  for _ in range(500):
    if holds():
      return
    time.sleep(0.01)
  raise AssertionError('It never held.')
