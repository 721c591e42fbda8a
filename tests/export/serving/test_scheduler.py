# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib

import pytest
import torch

from musiclm_jax.export.serving.metrics import Metrics
from musiclm_jax.export.serving.scheduler import (
  Order,
  QueueFull,
  Scheduler,
  Stopped,
)
from musiclm_jax.export.serving.settings import Settings
from tests.export.serving import toys


def order(prompt='reel', *, seeds=(0,), seconds=0.5, guidance=None):
  return Order(prompt=prompt, seconds=seconds, seeds=seeds, guidance=guidance)


@contextlib.asynccontextmanager
async def running(model, **settings):
  settings = {
    'tile': 3,
    'max_samples': 3,
    'batch_wait_seconds': 0.05,
  } | settings
  scheduler = Scheduler(model, settings=Settings(**settings), metrics=Metrics())
  task = asyncio.create_task(scheduler.run())
  try:
    yield scheduler
  finally:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def heard(ticket):
  return torch.cat([part async for part in ticket], dim=1)


def test_those_that_come_together_are_one_batch_and_each_hears_its_own():
  model = toys.FakeMusic()

  async def serve():
    async with running(model) as scheduler:
      tickets = [
        scheduler.submit(order('reel', seeds=(5,))),
        scheduler.submit(order('waltz', seeds=(7, 8))),
      ]
      return await asyncio.gather(*map(heard, tickets))

  reel, waltz = asyncio.run(serve())
  assert [call['seed'] for call in model.calls] == [[5, 7, 8]]
  expected = [toys.music('waltz', seconds=0.5, seed=seed) for seed in (7, 8)]
  torch.testing.assert_close(waltz, torch.stack(expected), rtol=0, atol=0)
  torch.testing.assert_close(
    reel[0], toys.music('reel', seconds=0.5, seed=5), rtol=0, atol=0
  )


def test_a_part_keeps_no_rows_of_others_in_memory():
  async def serve():
    async with running(toys.FakeMusic()) as scheduler:
      return await scheduler.submit(order(seeds=(5, 6))).next_part()

  part = asyncio.run(serve())
  assert part.untyped_storage().nbytes() == part.nbytes


def test_a_batch_that_is_not_full_is_filled_up():
  model = toys.FakeMusic()

  async def serve():
    async with running(model) as scheduler:
      return await heard(scheduler.submit(order(seeds=(5, 6))))

  assert asyncio.run(serve()).shape == (2, 0.5 * toys.RATE_HZ)
  (call,) = model.calls
  assert (call['prompts'], call['seed']) == (['reel'] * 3, [5, 6, 5])


def test_only_what_fits_is_made_together_and_the_oldest_comes_first():
  model = toys.FakeMusic()
  orders = [
    order('a', seconds=0.5),
    order('b', seconds=0.25),
    order('c', seconds=0.5, guidance=2.0),
    order('d', seconds=0.5, seeds=(1, 2)),
    order('e', seconds=0.5),
    order('f', seconds=0.25),
  ]

  async def serve():
    async with running(model) as scheduler:
      await asyncio.gather(*(heard(scheduler.submit(o)) for o in orders))

  asyncio.run(serve())
  batches = [''.join(dict.fromkeys(c['prompts'])) for c in model.calls]
  assert batches == ['ad', 'bf', 'c', 'e']


def test_a_full_queue_refuses_and_a_dropped_request_makes_room():
  model = toys.FakeMusic()
  model.gate.clear()

  async def serve():
    async with running(
      model, tile=1, max_samples=1, max_waiting=2
    ) as scheduler:
      first = scheduler.submit(order('a'))
      while not scheduler.num_running:
        await asyncio.sleep(0.001)
      waiting = [scheduler.submit(order(prompt)) for prompt in 'bc']
      with pytest.raises(QueueFull):
        scheduler.submit(order('d'))
      scheduler.drop(waiting[0])
      last = scheduler.submit(order('e'))
      model.gate.set()
      await asyncio.gather(*map(heard, (first, waiting[1], last)))

  asyncio.run(serve())
  assert [call['prompts'] for call in model.calls] == [['a'], ['c'], ['e']]


def test_batches_that_wait_are_counted_by_length_and_must_end_in_time():
  # A batch of 0.5 s takes 0.4 s.
  model = toys.FakeMusic(seconds_per_part=0.2)

  async def serve():
    async with running(model, timeout_seconds=4.0) as scheduler:
      await heard(scheduler.submit(order()))
      tickets = [scheduler.submit(order())]
      while not scheduler.num_running:
        await asyncio.sleep(0.001)
      # Five lengths are five batches, of 2.25 s of audio and 1.8 s of work,
      # and six of one length are two, of 0.5 s of audio and 0.4 s of work; with
      # the one at work 2.6 s, give or take.
      seconds = [0.35, 0.4, 0.45, 0.5, 0.55] + 6 * [0.25]
      tickets += [scheduler.submit(order(seconds=s)) for s in seconds]
      with pytest.raises(QueueFull, match='try again in 3 s'):
        scheduler.submit(order(seconds=5.0))
      # It shares a batch that is made anyway.
      tickets.append(scheduler.submit(order(seconds=0.4)))
      for ticket in tickets:
        scheduler.drop(ticket)

  asyncio.run(serve())


def test_an_idle_server_tries_whatever_the_last_batch_took():
  model = toys.FakeMusic(seconds_per_part=0.2)

  async def serve():
    async with running(model, timeout_seconds=0.1) as scheduler:
      for _ in range(2):
        await heard(scheduler.submit(order()))

  asyncio.run(serve())
  assert len(model.calls) == 2


def test_a_batch_that_nobody_wants_any_more_is_given_up():
  model = toys.FakeMusic()

  async def serve():
    async with running(model) as scheduler:
      ticket = scheduler.submit(order(seconds=1000.0))
      await ticket.next_part()
      scheduler.drop(ticket)
      await heard(scheduler.submit(order('next')))

  asyncio.run(serve())
  assert 1 <= model.num_parts < 2000


def test_a_failed_batch_fails_its_requests_and_no_others():
  model = toys.FakeMusic()

  async def serve():
    async with running(model) as scheduler:
      model.fails_with = RuntimeError('out of memory')
      broken = scheduler.submit(order())
      with pytest.raises(RuntimeError, match='out of memory'):
        await heard(broken)
      model.fails_with = None
      return await heard(scheduler.submit(order()))

  assert asyncio.run(serve()).shape[0] == 1


def test_whoever_waits_when_it_stops_is_told():
  model = toys.FakeMusic()
  model.gate.clear()

  async def serve():
    async with running(model, tile=1, max_samples=1) as scheduler:
      tickets = [scheduler.submit(order(prompt)) for prompt in 'ab']
      while not scheduler.num_running:
        await asyncio.sleep(0.001)
    model.gate.set()
    for ticket in tickets:
      with pytest.raises(Stopped):
        await heard(ticket)

  asyncio.run(serve())


def test_a_model_that_gives_no_sign_of_life_is_stuck():
  model = toys.FakeMusic()
  model.gate.clear()

  async def serve():
    async with running(model, timeout_seconds=0.05) as scheduler:
      scheduler.submit(order())
      states = [scheduler.is_stuck]
      await asyncio.sleep(0.2)
      states.append(scheduler.is_stuck)
      model.gate.set()
      return states

  assert asyncio.run(serve()) == [False, True]
