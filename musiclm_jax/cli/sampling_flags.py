# SPDX-License-Identifier: Apache-2.0
"""Flags that say how the stages draw, each in place of the model's own."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from musiclm_jax.stages.spec import STAGES

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.inference.settings import SamplingConfig

_PER_STAGE = {
  'temperature': (float, '0 takes the likeliest code'),
  'top_k': (int, 'how many of the likeliest codes may be drawn'),
  'top_p': (float, 'the share of probability that may be drawn'),
}


def add(parser: argparse.ArgumentParser) -> None:
  """Adds the four flags."""
  parser.add_argument(
    '--guidance',
    type=float,
    help='scale of classifier-free guidance; 1 for none',
  )
  for name, (kind, about) in _PER_STAGE.items():
    parser.add_argument(
      f'--{name}',
      type=_one_or_three(kind),
      help=f'{about}; one for all stages, or one for each, such as 1,0.95,0.4',
    )


def read(options: argparse.Namespace, *, own: SamplingConfig) -> SamplingConfig:
  """The model's own settings, with those that flags give in their place."""
  given = {name: getattr(options, name) for name in _PER_STAGE}
  changed: dict[str, Any] = {
    stage: dataclasses.replace(
      getattr(own, stage),
      **{name: v[number] for name, v in given.items() if v is not None},
    )
    for number, stage in enumerate(STAGES)
  }
  if options.guidance is not None:
    changed['guidance_scale'] = options.guidance
  return dataclasses.replace(own, **changed)


def _one_or_three(kind: type) -> Any:
  """Reads one number, or three, as three."""

  def numbers(text: str) -> tuple[Any, ...]:
    values = tuple(kind(part) for part in text.split(','))
    if len(values) not in (1, len(STAGES)):
      raise argparse.ArgumentTypeError(
        f'{text!r} has {len(values)} numbers; give 1 for all stages or'
        f' {len(STAGES)} for {", ".join(STAGES)}'
      )
    return values * len(STAGES) if len(values) == 1 else values

  numbers.__name__ = 'number'
  return numbers
