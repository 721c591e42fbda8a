# SPDX-License-Identifier: Apache-2.0
"""Copies of held-out clips while a codec is trained, level by level.

What `musiclm evaluate codec` tells, every so many steps, of the codec as it
would be published: whole clips through the codes, in chunks, where the
trainer's own evaluation has crops of one length and all levels. Its programs
are compiled at every evaluation; a cache of compiled programs keeps them.

Shapes: waveform [samples].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from musiclm_jax.evaluation import codec as evaluation
from musiclm_jax.evaluation import in_training
from musiclm_jax.training.hooks import Run


class EvaluateCodec:
  """Copies the same clips every so often, and measures them; a `Hook`."""

  def __init__(
    self,
    clips: Sequence[Float[np.ndarray, ' samples']],
    *,
    every_steps: int,
    metrics: Mapping[str, evaluation.Metric],
    levels: Sequence[int] = evaluation.DEFAULT_LEVELS,
    name: str = 'copies',
  ):
    """Copies nothing yet.

    Args:
      clips: At the codec's rate, of one length.
      every_steps: When; also at the end of the run.
      metrics: What is taken of each copy, by name.
      levels: How many levels to decode; all of them in any case.
      name: Figures are named `<name>/<metric>/levels_<number>`.
    """
    self._clips = tuple(clips)
    self._every_steps = every_steps
    self._metrics = dict(metrics)
    self._levels = tuple(levels)
    self._name = name
    self._published = in_training.Published('codec', hook='EvaluateCodec')

  def due(self, run: Run) -> bool:
    self._published.check_once(run)
    return run.every(self._every_steps)

  def __call__(self, run: Run) -> None:
    contents = self._published.of(run)
    systems = evaluation.Systems(
      codec=contents.config.make_codec(
        contents.weights, stream=contents.stream_out
      ),
      levels=self._levels,
      opus_kbps=(),
    )
    found = evaluation.evaluate(
      systems, self._each_clip(run.beat), metrics=self._metrics
    )
    figures = in_training.of_first_process(
      {
        f'{self._name}/{metric}/levels_{count}': float(np.mean(values))
        for count, system in zip(systems.levels, found.systems, strict=True)
        for metric, values in system.figures.items()
      }
    )
    run.writer.scalars(run.step, figures)
    run.figures.update(figures)

  def _each_clip(
    self, beat: Callable[[], None]
  ) -> Iterator[Float[np.ndarray, ' samples']]:
    for clip in self._clips:
      beat()
      yield clip
