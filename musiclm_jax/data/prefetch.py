# SPDX-License-Identifier: Apache-2.0
"""Makes a few items ahead of their use, in threads, and keeps their order."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_Item = TypeVar('_Item')


def prefetch(
  make: Callable[[int], _Item],
  numbers: Iterable[int],
  *,
  num_ahead: int,
  num_threads: int,
) -> Iterator[_Item]:
  """Yields `make(number)` for each number, in order.

  What `make` raises is raised here, where its item was due. When the iterator
  is closed, dropped or exhausted its threads have ended.

  Args:
    make: A pure function; several threads call it at once.
    numbers: Of the items; may be endless.
    num_ahead: Items that are made or in the making before they are asked for.
    num_threads: Items that are in the making at once.
  """
  pool = concurrent.futures.ThreadPoolExecutor(
    num_threads, thread_name_prefix='prefetch'
  )
  pending = collections.deque()
  try:
    for number in numbers:
      pending.append(pool.submit(make, number))
      if len(pending) > num_ahead:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)
