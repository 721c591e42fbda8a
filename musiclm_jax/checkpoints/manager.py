# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of a run: saved beside the training, restored bit for bit.

A thin layer over Orbax, `<directory>/<step>/`, with what it leaves to its
user: a folder without its commit marker is never picked up, a checkpoint that
does not fit the model is told leaf by leaf, and every leaf carries a checksum,
because a flipped bit on disk is otherwise restored without a word. Works the
same with several processes, each of which calls every method.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from musiclm_jax.checkpoints import buckets, checksum

_STATE = 'state'
_HOST = 'host'
_COMMIT_MARKER = 'commit_success.txt'
# How TensorStore ends its messages, long paths before it.
_OS_ERROR = re.compile(r': ([^:]+) \[os_error_code=')
_SHOWN = 5  # Of the leaves that do not fit; the rest is counted.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restored:
  """A state to go on from.

  Attributes:
    state: On the devices, in the shardings that were asked for.
    step: Steps it has behind it.
    position: Global batches consumed: where the data goes on.
    metrics: Held-out figures at that step, as they were saved.
  """

  state: Any
  step: int
  position: int
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)


class CheckpointManager:
  """Saves, keeps, finds and restores the checkpoints of one run."""

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    keep: int = 3,
    best_metric: str | None = None,
    best_mode: Literal['min', 'max'] = 'min',
  ):
    """Opens a folder, made if absent, and sets aside what a crash left there.

    Args:
      directory: Usually `<model_dir>/checkpoints`; may be a bucket.
      keep: How many of the latest checkpoints stay.
      best_metric: If given, the best checkpoint by this metric stays as well.
      best_mode: Whether a small or a large value is best.
    """
    if keep < 1:
      raise ValueError(f'keep is {keep}; 1 or more, or there is no resuming.')
    self._directory = _absolute(directory)
    self._best_metric = best_metric
    logging.get_absl_logger().addFilter(_is_no_traceback_of_orbax)
    if jax.process_index() == 0:
      self._directory.mkdir(parents=True, exist_ok=True)
      _set_aside_unfinished(self._directory)
    _wait_for_all('checkpoints opened')
    self._orbax = ocp.CheckpointManager(
      self._directory,
      options=_options(keep, best_metric=best_metric, best_mode=best_mode),
    )

  def __enter__(self) -> CheckpointManager:
    return self

  def __exit__(self, *unused_error: Any) -> None:
    self.close()

  @property
  def latest_step(self) -> int | None:
    return self._orbax.latest_step()

  @property
  def best_step(self) -> int | None:
    """The best by `best_metric`, of those that were saved with one."""
    return self._orbax.best_step()

  @property
  def steps(self) -> tuple[int, ...]:
    return tuple(sorted(self._orbax.all_steps()))

  def save(
    self,
    step: int,
    state: Any,
    *,
    position: int,
    metrics: Mapping[str, float] | None = None,
  ) -> bool:
    """Copies the state to the host, then writes it while training goes on.

    The caller may donate the state's buffers as soon as this returns.

    Args:
      step: Steps the state has behind it.
      state: A pytree of arrays.
      position: Global batches consumed.
      metrics: Held-out figures at this step, if it was evaluated.

    Returns:
      False if this step is on disk already, and nothing was done.
    """
    if step in self._orbax.all_steps():
      return False
    metrics = self._checked_metrics(metrics)
    host = {
      'position': int(position),
      'metrics': metrics,
      'forms': checksum.forms(state),
      'checksums': checksum.of_leaves(state),
    }
    # Non-finite figures rank nowhere, as if the step had not been evaluated.
    ranked = math.isfinite(metrics.get(self._best_metric, math.nan))
    with _clear_write_errors(self._directory):
      self._orbax.save(
        step,
        args=ocp.args.Composite(
          **{
            _STATE: ocp.args.StandardSave(state),
            _HOST: ocp.args.JsonSave(host),
          }
        ),
        metrics=metrics if ranked else None,
      )
    return True

  def restore(
    self, abstract_state: Any, *, step: int | None = None
  ) -> Restored:
    """Reads a checkpoint straight into place.

    Args:
      abstract_state: The state as `jax.ShapeDtypeStruct`s with shardings, or
        as arrays whose place is taken over.
      step: Which one; the latest if left out.

    Returns:
      The state and the host's part.

    Raises:
      ValueError: There is none, it does not fit, or it is damaged.
    """
    step = self.latest_step if step is None else step
    if step not in self.steps:
      raise ValueError(
        f'{self._directory} has no checkpoint of step {step}; it has'
        f' {list(self.steps)}.'
      )
    with _clear_read_errors(self._directory / str(step), others=self.steps):
      host = self._restore(step, _HOST, ocp.args.JsonRestore())
      _require_fit(host['forms'], checksum.forms(abstract_state))
      arguments = ocp.args.StandardRestore(abstract_state)
      state = self._restore(step, _STATE, arguments)
      _require_checksums(host['checksums'], checksum.of_leaves(state))
    logging.info('Restored step %d from %s.', step, self._directory)
    return Restored(
      state=state,
      step=step,
      position=host['position'],
      metrics=host['metrics'],
    )

  def wait(self) -> None:
    """Returns when the last save is on disk, or raises what befell it."""
    with _clear_write_errors(self._directory):
      self._orbax.wait_until_finished()

  def close(self) -> None:
    """Waits, then lets go of the folder."""
    with _clear_write_errors(self._directory):
      self._orbax.close()

  def _restore(self, step: int, item: str, arguments: Any) -> Any:
    composite = ocp.args.Composite(**{item: arguments})
    return self._orbax.restore(step, args=composite)[item]

  def _checked_metrics(
    self, metrics: Mapping[str, float] | None
  ) -> dict[str, float]:
    metrics = {name: float(value) for name, value in (metrics or {}).items()}
    if metrics and self._best_metric not in (None, *metrics):
      raise ValueError(
        f'The best checkpoint is chosen by {self._best_metric!r}, but the'
        f' evaluation gave {sorted(metrics)}; choose one of these.'
      )
    return metrics


def resume_or_start(
  manager: CheckpointManager,
  *,
  abstract_state: Any,
  warm_start: Callable[[], Any] | None,
  scratch: Callable[[], Any],
) -> Restored:
  """The state a run begins with: resume, then warm start, then scratch."""
  if manager.latest_step is not None:
    return manager.restore(abstract_state)
  state = scratch() if warm_start is None else warm_start()
  return Restored(state=state, step=0, position=0)


def _options(
  keep: int, *, best_metric: str | None, best_mode: str
) -> ocp.CheckpointManagerOptions:
  policies = [checkpoint_managers.preservation_policy.LatestN(keep)]

  def value(metrics: Mapping[str, float]) -> float:
    return metrics[best_metric]

  if best_metric is not None:
    # Beside the latest ones: a run resumes from the latest, not from the best.
    policies.append(
      checkpoint_managers.preservation_policy.BestN(
        get_metric_fn=value,
        reverse=best_mode == 'min',
        n=1,
        keep_checkpoints_without_metrics=False,
      )
    )
  return ocp.CheckpointManagerOptions(
    preservation_policy=(
      checkpoint_managers.preservation_policy.AnyPreservationPolicy(policies)
    ),
    best_fn=None if best_metric is None else value,
    best_mode=best_mode,
    cleanup_tmp_directories=True,
  )


def _set_aside_unfinished(directory: epath.Path) -> None:
  """Renames step folders without a commit marker; Orbax would pick them up."""
  for path in directory.iterdir():
    if path.name.isdigit() and not (path / _COMMIT_MARKER).exists():
      aside = directory / f'{path.name}.unfinished'
      logging.warning('%s was not finished: set aside as %s.', path, aside.name)
      if aside.exists():
        aside.rmtree()
      path.rename(aside)


def _require_fit(saved: Mapping[str, str], wanted: Mapping[str, str]) -> None:
  """Raises if the leaves on disk are not the ones that are wanted."""
  differing = [
    f'{path}: {saved.get(path, "absent")} on disk,'
    f' {wanted.get(path, "absent")} in the model'
    for path in sorted(saved.keys() | wanted.keys())
    if saved.get(path) != wanted.get(path)
  ]
  if differing:
    raise ValueError(
      f'it does not fit this model and optimizer in {len(differing)} of'
      f' {len(wanted)} leaves: {_some(differing)}. Resume with the config that'
      ' wrote it, or train in another folder'
    )


def _require_checksums(
  saved: Mapping[str, int], found: Mapping[str, int]
) -> None:
  damaged = [path for path in found if saved[path] != found[path]]
  if damaged:
    raise ValueError(f'the data of {_some(damaged)} is damaged')


def _some(items: list[str]) -> str:
  more = len(items) - _SHOWN
  return '; '.join(items[:_SHOWN]) + (f'; and {more} more' if more > 0 else '')


@contextlib.contextmanager
def _clear_read_errors(
  path: epath.Path, *, others: tuple[int, ...]
) -> Iterator[None]:
  try:
    yield
  except jax.errors.JaxRuntimeError:
    raise  # Of the machine or the pod, not of the files.
  except Exception as error:  # Orbax and TensorStore raise a dozen types.
    earlier = [step for step in others if step != int(path.name)]
    raise ValueError(
      f'The checkpoint {path} cannot be restored: {_first_line(error)}. To go'
      f' on from another one, move this folder away; there are {earlier}.'
    ) from error


@contextlib.contextmanager
def _clear_write_errors(directory: epath.Path) -> Iterator[None]:
  try:
    yield
  except jax.errors.JaxRuntimeError:
    raise  # Of the machine or the pod, not of the files.
  except Exception as error:  # Orbax and TensorStore raise a dozen types.
    cause = _OS_ERROR.search(str(error))
    raise OSError(
      f'A checkpoint could not be written to {directory}:'
      f' {cause[1] if cause else _first_line(error)}.'
      ' Those before it are whole; free some space and start again to resume.'
    ) from error


def _is_no_traceback_of_orbax(record: Any) -> bool:
  """Orbax's threads log what is raised here anyway, at 300 lines an error."""
  return not (record.exc_info and '/orbax/' in record.pathname)


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0][:600].rstrip('.')


def _absolute(directory: str | os.PathLike[str]) -> epath.Path:
  """Orbax refuses relative paths."""
  text = os.fspath(directory)
  return epath.Path(text if buckets.is_bucket(text) else os.path.abspath(text))


def _wait_for_all(what: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)
