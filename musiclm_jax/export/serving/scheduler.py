# SPDX-License-Identifier: Apache-2.0
"""Requests wait here, and are made in batches of one shape.

One thread runs the model, a batch at a time; everything else happens in the
event loop. The oldest request leads a batch, and those that fit to it (of the
same length and guidance) fill it up in order of arrival, so nobody is overtaken
for ever. A batch is filled to `tile` rows with copies of its first: the
programs are those of its length whoever asks, so a seeded piece is the same
alone or among others.

Every batch is made as a stream of parts. Between two of them the thread looks
whether anybody still wants the rest; so whoever asks for a whole file hears the
same samples, and nothing is made for clients that went away.

Shapes: rows = pieces of a batch, samples = time of one part.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from .metrics import Metrics
from .settings import Settings

# Of the timeout, what is planned with: when a batch ends is a guess.
_PLANNED = 0.8

# Fine windows of a piece that stages decode at a time: those of a coarse window
# of 10 s. The caches of a tile grow by as much.
_WINDOWS = 4


@runtime_checkable  # For the type checks of our tests.
class Model(Protocol):
  """What makes the music; the exported `MusicLM` is one."""

  sample_rate_hz: int

  def generate(
    self,
    prompts: Sequence[str],
    *,
    seconds: float,
    seed: Sequence[int],
    guidance: float | None,
    stream: bool,
    max_rows: int,
  ) -> Iterator[torch.Tensor]:
    """[rows, some samples] at a time; a row depends on no other.

    Stages decode `max_rows` windows at a time. How many there are follows from
    the number of rows and their length alone, so the programs do too.
    """
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
  """What one client asks for.

  Attributes:
    prompt: In words.
    seconds: Of each piece.
    seeds: One a piece.
    guidance: Scale of classifier-free guidance; None for the model's own.
  """

  prompt: str
  seconds: float
  seeds: tuple[int, ...]
  guidance: float | None = None

  def fits(self, other: Order) -> bool:
    """Whether both can be made in one batch."""
    return (self.seconds, self.guidance) == (other.seconds, other.guidance)


class QueueFull(Exception):
  """There is no room or no time for another request.

  Attributes:
    retry_after_seconds: When there probably is.
  """

  def __init__(self, retry_after_seconds: int):
    super().__init__(f'try again in {retry_after_seconds} s')
    self.retry_after_seconds = retry_after_seconds


class Stopped(Exception):
  """The server shuts down before the request is made."""


@dataclasses.dataclass(eq=False)
class Ticket:
  """A request from its arrival to its last part.

  Attributes:
    order: What is asked for.
    arrived: On the event loop's clock.
    is_wanted: Whether somebody waits for it.
    parts: Of [rows, samples]; then None, or what went wrong.
  """

  order: Order
  arrived: float
  is_wanted: bool = True
  parts: asyncio.Queue[Any] = dataclasses.field(default_factory=asyncio.Queue)

  async def next_part(self) -> torch.Tensor | None:
    """[rows, samples] of its pieces; None after the last."""
    part = await self.parts.get()
    if isinstance(part, BaseException):
      raise part
    return part

  async def __aiter__(self) -> AsyncIterator[torch.Tensor]:
    while (part := await self.next_part()) is not None:
      yield part


class Scheduler:
  """The queue before a model, and the thread that runs it."""

  def __init__(self, model: Model, *, settings: Settings, metrics: Metrics):
    """Lives within one event loop, in which `run` must be running.

    Args:
      model: Called from one thread at a time.
      settings: Sizes of queue and batch.
      metrics: Told of every batch.
    """
    self._model = model
    self._settings = settings
    self._metrics = metrics
    self._waiting: collections.deque[Ticket] = collections.deque()
    self._running: list[Ticket] = []
    self._arrival = asyncio.Event()
    self._started = self._last_sign_of_life = time.monotonic()
    # Seconds that a second of a batch's audio takes; 0 before the first batch.
    self._pace = 0.0
    self._thread = concurrent.futures.ThreadPoolExecutor(
      1, thread_name_prefix='model'
    )

  @property
  def num_waiting(self) -> int:
    """Requests in the queue."""
    return len(self._waiting)

  @property
  def num_running(self) -> int:
    """Requests in the batch at work that are still wanted."""
    return sum(ticket.is_wanted for ticket in self._running)

  @property
  def is_stuck(self) -> bool:
    """Whether a batch has given nothing for longer than a request may take."""
    silent = time.monotonic() - self._last_sign_of_life
    return bool(self._running) and silent > self._settings.timeout_seconds

  def submit(self, order: Order) -> Ticket:
    """Puts a request in the queue.

    Raises:
      QueueFull: There is no room, or it would not be made in time.
    """
    waiting = [ticket.order for ticket in self._waiting]
    # An idle server tries whatever the last batch took.
    is_late = (
      bool(waiting or self._running)
      and self._seconds_to_make([*waiting, order])
      > _PLANNED * self._settings.timeout_seconds
    )
    if is_late or self.num_waiting >= self._settings.max_waiting:
      raise QueueFull(max(1, math.ceil(self._seconds_to_make(waiting))))
    ticket = Ticket(order, asyncio.get_running_loop().time())
    self._waiting.append(ticket)
    self._arrival.set()
    return ticket

  def drop(self, ticket: Ticket) -> None:
    """Nobody waits for it any more; frees its place at once."""
    ticket.is_wanted = False
    if ticket in self._waiting:
      self._waiting.remove(ticket)

  async def run(self) -> None:
    """Makes batches until it is cancelled; then the requests left fail."""
    try:
      while True:
        await self._make(await self._next_batch())
    finally:
      left = [*self._waiting, *self._running]
      for ticket in left:
        self.drop(ticket)
        ticket.parts.put_nowait(Stopped())
      # The batch at work ends with its next part.
      self._thread.shutdown(wait=False, cancel_futures=True)

  async def _next_batch(self) -> list[Ticket]:
    """Those that are made together; waits for the first, and a little more."""
    loop = asyncio.get_running_loop()
    while True:
      while not self._waiting:
        await self._arrived()
      patience = self._waiting[0].arrived + self._settings.batch_wait_seconds
      batch, num_rows = self._together()
      if num_rows == self._settings.tile or loop.time() >= patience:
        for ticket in batch:
          self._waiting.remove(ticket)
        return batch
      with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(patience):
          await self._arrived()

  async def _arrived(self) -> None:
    self._arrival.clear()
    await self._arrival.wait()

  def _together(self) -> tuple[list[Ticket], int]:
    """The oldest request and those that fit to it; and their rows."""
    batch, num_rows = [], 0
    for ticket in self._waiting:
      rows = len(ticket.order.seeds)
      fits = ticket.order.fits(self._waiting[0].order)
      if fits and num_rows + rows <= self._settings.tile:
        batch.append(ticket)
        num_rows += rows
    return batch, num_rows

  async def _make(self, batch: list[Ticket]) -> None:
    """Has the thread make a batch, and tells its tickets how it ended."""
    loop = asyncio.get_running_loop()
    self._started = self._last_sign_of_life = time.monotonic()
    self._running = batch
    error = None
    try:
      await loop.run_in_executor(self._thread, self._generate, batch, loop)
    except Exception as raised:
      logging.exception('A batch failed.')
      error = raised
    seconds = time.monotonic() - self._started
    pace = seconds / batch[0].order.seconds
    self._pace += (pace - self._pace) / (4 if self._pace else 1)
    self._metrics.batch_rows.add(sum(len(t.order.seeds) for t in batch))
    self._metrics.batch_seconds.add(seconds)
    for ticket in batch:
      ticket.parts.put_nowait(error)
    self._running = []

  def _generate(
    self, batch: list[Ticket], loop: asyncio.AbstractEventLoop
  ) -> None:
    """In the thread: hands out parts while anybody wants them."""
    prompts = [t.order.prompt for t in batch for _ in t.order.seeds]
    seeds = [seed for t in batch for seed in t.order.seeds]
    num_copies = self._settings.tile - len(seeds)
    first = batch[0].order
    waveforms = self._model.generate(
      prompts + prompts[:1] * num_copies,
      seconds=first.seconds,
      seed=seeds + seeds[:1] * num_copies,
      guidance=first.guidance,
      stream=True,
      max_rows=_WINDOWS * self._settings.tile,
    )
    for waveform in waveforms:
      if not any(ticket.is_wanted for ticket in batch):
        return
      # On the host before another thread looks at it.
      loop.call_soon_threadsafe(self._hand_out, batch, waveform.cpu())

  def _hand_out(self, batch: list[Ticket], waveform: torch.Tensor) -> None:
    """Gives each request its rows of [rows, samples]."""
    self._last_sign_of_life = time.monotonic()
    row = 0
    for ticket in batch:
      num_rows = len(ticket.order.seeds)
      if ticket.is_wanted:
        # A view would keep the rows of all in memory.
        part = waveform[row : row + num_rows].clone()
        ticket.parts.put_nowait(part)
        self._metrics.audio_seconds += part.numel() / self._model.sample_rate_hz
      row += num_rows

  def _seconds_to_make(self, orders: Sequence[Order]) -> float:
    """What is left of the batch at work, and the batches of these orders."""
    num_rows: collections.Counter[Any] = collections.Counter()
    for order in orders:
      num_rows[order.seconds, order.guidance] += len(order.seeds)
    audio_seconds = sum(
      seconds * math.ceil(rows / self._settings.tile)
      for (seconds, _), rows in num_rows.items()
    )
    left = 0.0
    if self._running:
      whole = self._running[0].order.seconds * self._pace
      left = max(0.0, whole - (time.monotonic() - self._started))
    return left + audio_seconds * self._pace
