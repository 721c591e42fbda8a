# SPDX-License-Identifier: Apache-2.0
"""Shards in parallel: worker processes that end when they should.

A worker writes one shard at a time. It stops within a clip when the run fails
or is interrupted, and dies with the process that started it: one left over from
a killed run would write beside the next run's workers.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import dataclasses
import itertools
import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import multiprocessing.synchronize
import os
import pathlib
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from musiclm_jax.data import progress as progress_lib
from musiclm_jax.data import shards
from musiclm_jax.data.sources import ClipRef, ClipSource


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
  """What every worker is told once."""

  source: ClipSource
  directory: pathlib.Path
  settings: shards.ShardSettings


def write_shards(
  work: Work,
  parts: Mapping[int, Sequence[ClipRef]],
  *,
  num_workers: int | None,
  bar: progress_lib.Bar,
) -> Iterator[shards.ShardReport]:
  """Yields a report for each shard as it is completed, in no order."""
  if num_workers is None:
    num_workers = os.cpu_count() or 1
  num_workers = min(num_workers, len(parts))
  if num_workers == 0:
    for number, part in parts.items():
      yield _write(work, number, part, bar.advance)
    return
  # Spawned, not forked: JAX and TensorFlow hold threads that a fork breaks.
  context = multiprocessing.get_context('spawn')
  queue, stop = context.Queue(), context.Event()
  pool = concurrent.futures.ProcessPoolExecutor(
    num_workers, context, _start_worker, (work, queue, stop)
  )

  def show_progress() -> None:
    while not queue.empty():
      bar.advance(*queue.get())

  try:
    waiting, pending = iter(parts.items()), set()
    while True:
      # A few at a time: to wait for futures costs time for each of them.
      for item in itertools.islice(waiting, 2 * num_workers - len(pending)):
        pending.add(pool.submit(_write_in_worker, *item))
      if not pending:
        break
      done, pending = concurrent.futures.wait(pending, timeout=0.2)
      show_progress()
      for future in done:
        yield future.result()
  except concurrent.futures.process.BrokenProcessPool as error:
    raise OSError(
      f'A process that wrote {work.directory} died, perhaps for want of memory;'
      ' complete shards are kept. Run again with fewer workers.'
    ) from error
  finally:
    stop.set()
    pool.shutdown(cancel_futures=True)
    show_progress()


def _write(
  work: Work, number: int, part: Sequence[ClipRef], advance: shards.Advance
) -> shards.ShardReport:
  return shards.write_shard(
    work.source,
    part,
    directory=work.directory,
    number=number,
    settings=work.settings,
    advance=advance,
  )


_worker: dict[str, Any] = {}


class _Stopped(Exception):
  """In a worker: the run has ended before the shard."""


def _start_worker(
  work: Work,
  queue: multiprocessing.queues.Queue,
  stop: multiprocessing.synchronize.Event,
) -> None:
  """Keeps what every shard needs, and ends with the process that asked."""
  # Control-C reaches the whole group; the parent tells the workers to stop.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  _worker.update(work=work, queue=queue, stop=stop)
  threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
  """A worker whose parent was killed would go on beside the next run's."""
  multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
  os._exit(1)


def _write_in_worker(
  number: int, part: Sequence[ClipRef]
) -> shards.ShardReport:
  def advance(*step: Any) -> None:
    _worker['queue'].put(step)
    if _worker['stop'].is_set():
      raise _Stopped

  return _write(_worker['work'], number, part, advance)
