# SPDX-License-Identifier: Apache-2.0
"""Says so, loudly, when a learned codebook has collapsed.

A codebook that few codes of are used still gives a falling loss: what there is
to predict has become easy. w2v-BERT (Chung et al., 2021), section 5.3, shows
one; its training went on as if nothing was.
"""

from __future__ import annotations

import math

from absl import logging

from musiclm_jax.training.hooks import Run


class CodebookAlarm:
  """A hook after `Evaluate` that watches a held-out perplexity."""

  def __init__(
    self,
    *,
    figure: str,
    min_perplexity: float,
    every_steps: int,
    num_evaluations: int = 3,
  ):
    """Watches from the first evaluation on.

    Args:
      figure: Held-out figure: 'evaluate/w2v_bert/codes/perplexity'.
      min_perplexity: Below it the codebook is held to be collapsed.
      every_steps: Those of `Evaluate`.
      num_evaluations: In a row, before it is said; a codebook starts small.
        Counted anew after a restart.
    """
    if num_evaluations < 1:
      raise ValueError(f'num_evaluations is {num_evaluations}; 1 or more.')
    self._figure = figure
    self._min_perplexity = min_perplexity
    self._every_steps = every_steps
    self._num_evaluations = num_evaluations
    self._num_low = 0

  def due(self, run: Run) -> bool:
    return run.every(self._every_steps)

  def __call__(self, run: Run) -> None:
    if self._figure not in run.figures:
      raise ValueError(
        f'There is no figure {self._figure!r} to watch at step {run.step}, but'
        f' {sorted(run.figures)}; list the alarm after the evaluation that'
        ' makes it, with the same every_steps.'
      )
    perplexity = run.figures[self._figure]
    is_low = math.isnan(perplexity) or perplexity < self._min_perplexity
    self._num_low = self._num_low + 1 if is_low else 0
    collapsed = self._num_low >= self._num_evaluations
    run.writer.scalars(
      run.step, {'health/codebook_collapsed': float(collapsed)}
    )
    if collapsed:
      logging.error(
        'THE CODEBOOK HAS COLLAPSED: %s is %.2f at step %d, below %g for %d'
        ' evaluations. The losses mean nothing any more: stop the run, and raise'
        ' the weight of the diversity loss or lower the learning rate.',
        self._figure,
        perplexity,
        run.step,
        self._min_perplexity,
        self._num_low,
      )
