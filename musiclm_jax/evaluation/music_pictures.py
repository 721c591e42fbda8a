# SPDX-License-Identifier: Apache-2.0
"""What a report on music shows beside its tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import figure as figures
from matplotlib.backends import backend_agg

from musiclm_jax.evaluation.frechet import FrechetFigures
from musiclm_jax.evaluation.kld import KldFigures


def save_extrapolations(
  found: Mapping[str, FrechetFigures], *, path: str | os.PathLike[str]
) -> None:
  """FAD of parts of the set over 1 / N, and the line to an endless set."""
  figure, panels = _panels(len(found))
  for panel, (name, one) in zip(panels, found.items()):
    inverse = 1 / np.array(list(one.by_size))
    values = np.array(list(one.by_size.values()))
    panel.plot(inverse, values, 'o')
    if np.isfinite(one.at_infinity):
      last = int(np.argmin(inverse))
      # Through the mean of what it was fitted to, as least squares goes.
      slope = (values.mean() - one.at_infinity) / inverse.mean()
      ends = np.array([0, inverse.max()])
      panel.plot(ends, one.at_infinity + slope * ends, '--')
      panel.annotate(f'{values[last]:.2f}', (inverse[last], values[last]))
      panel.annotate(f'{one.at_infinity:.2f}', (0, one.at_infinity))
    panel.set_title(f'FAD-{name}', fontsize=9, loc='left')
    panel.set_xlabel('1 / samples')
    panel.grid(alpha=0.3)
  figure.savefig(path, dpi=110)


def save_per_clip(
  sides: Mapping[str, Mapping[str, Sequence[float]]],
  *,
  path: str | os.PathLike[str],
) -> None:
  """Histograms of figures of single clips, the sides over each other.

  Args:
    sides: By figure, the values of each set.
    path: Ends in .png, .svg or another type that matplotlib writes.
  """
  figure, panels = _panels(len(sides))
  for panel, (title, values) in zip(panels, sides.items()):
    known = {
      side: np.array(of_side)[np.isfinite(of_side)]
      for side, of_side in values.items()
    }
    edges = np.histogram_bin_edges(np.concatenate(list(known.values())), 20)
    for side, of_side in known.items():
      panel.hist(of_side, edges, alpha=0.5, label=side)
    panel.set_title(title, fontsize=9, loc='left')
    panel.legend(fontsize=8)
  figure.savefig(path, dpi=110)


def save_classes(
  found: Mapping[str, KldFigures], *, path: str | os.PathLike[str]
) -> None:
  """The classes whose share differs most between the sets."""
  figure, panels = _panels(len(found))
  for panel, (name, one) in zip(panels, found.items()):
    places = np.arange(len(one.most_apart))
    for shift, side in ((-0.2, 'reference'), (0.2, 'generated')):
      shares = [pair[shift > 0] for pair in one.most_apart.values()]
      panel.barh(places + shift, shares, height=0.4, label=side)
    panel.set_yticks(places, list(one.most_apart))
    panel.invert_yaxis()
    panel.set_title(f'mean share of classes, {name}', fontsize=9, loc='left')
    panel.legend(fontsize=8)
  figure.savefig(path, dpi=110)


def _panels(count: int) -> tuple[figures.Figure, list]:
  if not count:
    raise ValueError('There is no figure to draw; give at least 1.')
  # Without pyplot: no global state, and no display is looked for.
  figure = figures.Figure(figsize=(4.5 * count, 3.5), layout='constrained')
  backend_agg.FigureCanvasAgg(figure)
  return figure, list(figure.subplots(1, count, squeeze=False)[0])
