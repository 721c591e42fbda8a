# SPDX-License-Identifier: Apache-2.0
"""How much of its training data a semantic stage gives back.

MusicLM (Agostinelli et al., 2023), section 6 and its appendix on memorization:
the stage is prompted with the condition and the first T true tokens of a
training example, goes on greedily for 125 tokens (5 s), and is compared with
what truly followed. A match is exact if all tokens agree, approximate if moving
one token histogram onto the other costs less than a threshold, distances being
those between the tokens' centroids. The threshold is set so that hardly any pair
that does not belong together matches.

The paper's threshold is in the units of its own centroids; ours is set anew, on
pairs (continuation, truth of another example) of all prompts and splits that are
evaluated together, never two of one tune. The regularization of the transport is
not given; ours is a share of the mean distance between centroids.

Shapes: codes [examples, frames], the semantic stream of one window.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from musiclm_jax import batches
from musiclm_jax.array_types import Batch
from musiclm_jax.evaluation import codebook_usage, sinkhorn
from musiclm_jax.inference import rows, sampling
from musiclm_jax.inference.decoding import StageDecoder

PAPER_THRESHOLD = 0.85

Codes = Int[np.ndarray, 'examples frames']
Progress = Callable[[float], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemorizationConfig:
  """The protocol; the defaults are the paper's unless they say otherwise.

  Attributes:
    prompt_frames: How many true tokens are given, one evaluation each.
    num_generated: Tokens that are made and compared.
    false_positive_rate: Pairs that do not belong together match less often.
    num_negatives: Of those pairs, at most. Fewer than the inverse of the rate
      bound it only by their own number. Ours.
    regularization: Of the transport, as a share of the mean distance between
      centroids. Ours.
    max_rows: Decoded at once.
  """

  prompt_frames: tuple[int, ...] = (0, 25, 50, 125, 250)
  num_generated: int = 125
  false_positive_rate: float = 1e-4
  num_negatives: int = 20_000
  regularization: float = 0.02
  max_rows: int = 16

  @property
  def num_frames(self) -> int:
    """How long an example must be."""
    return max(self.prompt_frames) + self.num_generated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
  """Windows of one split, whose first `num_frames` semantic codes are all true.

  Attributes:
    split: Its name.
    batch: Codes and frame masks, as the stage is trained on, one row each.
    tunes: Of each row.
  """

  split: str
  batch: Batch
  tunes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptFigures:
  """What came of one length of prompt on one split.

  Attributes:
    split: Its name.
    prompt_frames: True tokens that were given.
    tunes: Of each example.
    exact: Whether all tokens are the true ones.
    costs: Of moving what was made onto what is true.
    entropies: Of the histogram of what was made, in bits.
  """

  split: str
  prompt_frames: int
  tunes: tuple[str, ...]
  exact: Bool[np.ndarray, ' examples']
  costs: Float[np.ndarray, ' examples']
  entropies: Float[np.ndarray, ' examples']


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemorizationReport:
  """All that was found.

  Attributes:
    config: The protocol.
    threshold: Below which a cost is a match.
    num_negatives: Pairs that it was set on.
    mean_distance: Between two centroids, the unit of the costs.
    prompts: Split by split, shortest prompt first.
  """

  config: MemorizationConfig
  threshold: float
  num_negatives: int
  mean_distance: float
  prompts: tuple[PromptFigures, ...]


def evaluate(
  decoder: StageDecoder,
  splits: Sequence[Examples],
  *,
  centroids: Float[np.ndarray, 'codes dim'],
  config: MemorizationConfig = MemorizationConfig(),  # noqa: B008
  progress: Progress | None = None,
) -> MemorizationReport:
  """Runs the protocol on each split; the training split and one as control.

  Args:
    decoder: The semantic stage.
    splits: Examples of each.
    centroids: Of the stage's output codes.
    config: The protocol.
    progress: Told the share that is done of the decoding.
  """
  _check(decoder, config)
  ground = sinkhorn.ground_distances(centroids)
  mean_distance = float(ground.sum() / (ground.size - len(ground)))
  compare = _Comparison(ground, config.regularization * mean_distance)
  found, negatives = [], []
  prompts = sorted(set(config.prompt_frames))
  num_runs = len(splits) * len(prompts)
  for examples in splits:
    codes = _true_codes(decoder, examples, config)
    for num_frames in prompts:
      made = continuations(
        decoder,
        examples.batch,
        prompt_frames=num_frames,
        num_generated=config.num_generated,
        max_rows=config.max_rows,
      )
      true = codes[:, num_frames : num_frames + config.num_generated]
      found.append(
        PromptFigures(
          split=examples.split,
          prompt_frames=num_frames,
          tunes=examples.tunes,
          exact=np.all(made == true, axis=1),
          costs=compare(made, true),
          entropies=np.array([_entropy_bits(row) for row in made]),
        )
      )
      one, other = negative_pairs(
        examples.tunes, most=config.num_negatives // num_runs
      )
      negatives.append(compare(made[one], true[other]))
      if progress is not None:
        progress(len(found) / num_runs)
  costs = np.concatenate(negatives)
  return MemorizationReport(
    config=config,
    threshold=calibrate(costs, rate=config.false_positive_rate),
    num_negatives=len(costs),
    mean_distance=mean_distance,
    prompts=tuple(found),
  )


def continuations(
  decoder: StageDecoder,
  batch: Batch,
  *,
  prompt_frames: int,
  num_generated: int,
  max_rows: int,
) -> Codes:
  """The likeliest token after token, from the first ones of each example on.

  Args:
    decoder: Of a stage whose output has one level; its sampler is not used.
    batch: Codes and frame masks of whole windows.
    prompt_frames: True tokens that are given.
    num_generated: Tokens that are made.
    max_rows: Decoded at once.
  """
  layout = decoder.config.layout
  name, total = layout.output.take.stream.name, layout.output.num_frames
  codes = {n: batch[batches.codes_key(n)] for n in layout.spec.streams}
  masks = {n: batch[batches.frame_mask_key(n)] for n in layout.spec.streams}
  num_rows = len(codes[name])
  given = np.broadcast_to(np.arange(total) < prompt_frames, (num_rows, total))
  tokens = layout.pack_prompt(
    codes, frame_masks=masks, given=given[..., None], num_rows=num_rows
  )
  decoding = dataclasses.replace(
    decoder.decoding, sampler=sampling.greedy, guidance_scale=None
  )
  made = rows.decode(
    dataclasses.replace(decoder, decoding=decoding),
    np.asarray(tokens),
    seeds=np.zeros(num_rows, np.uint32),
    places=np.zeros(num_rows, np.uint32),
    stage_index=0,
    dropped_streams=(),
    max_rows=max_rows,
    num_frames=prompt_frames + num_generated,
    num_prefilled_frames=prompt_frames,
  )
  whole = np.asarray(layout.unpack(made))[:, :, 0]
  return whole[:, prompt_frames : prompt_frames + num_generated]


def negative_pairs(
  tunes: Sequence[str], *, most: int
) -> tuple[Int[np.ndarray, ' pairs'], Int[np.ndarray, ' pairs']]:
  """Pairs of examples of different tunes, `most` at most.

  The examples are set against themselves shifted by 1, by 2, and so on.
  """
  names, numbers = np.array(tunes), np.arange(len(tunes))
  first, second, missing = [], [], most
  for shift in range(1, len(tunes)):
    other = np.roll(numbers, -shift)
    kept = np.flatnonzero(names != names[other])[:missing]
    first.append(kept)
    second.append(other[kept])
    missing -= len(kept)
  if not sum(map(len, first)):
    raise ValueError(
      f'The {len(tunes)} examples are of one tune, so there are no pairs that'
      ' do not belong together; give examples of two tunes or more.'
    )
  return np.concatenate(first), np.concatenate(second)


def calibrate(negatives: Float[np.ndarray, ' pairs'], *, rate: float) -> float:
  """The largest threshold below which a smaller share than `rate` falls."""
  most = max(0, math.ceil(rate * len(negatives)) - 1)
  return float(np.sort(negatives)[most])


@dataclasses.dataclass(frozen=True)
class _Comparison:
  """Costs between rows of codes."""

  ground: Float[np.ndarray, 'codes codes']
  regularization: float

  def __call__(self, made: Codes, true: Codes) -> Float[np.ndarray, ' pairs']:
    return sinkhorn.transport_costs(
      made, true, ground=self.ground, regularization=self.regularization
    )


def _check(decoder: StageDecoder, config: MemorizationConfig) -> None:
  """Raises unless the stage fits the protocol."""
  output = decoder.config.layout.output
  if output.take.distinct_share is not None:
    raise ValueError(
      f'Stage {decoder.config.spec.name!r} makes codes without repeats, and the'
      ' protocol counts codes of frames; give a stage that was trained without'
      ' distinct_share.'
    )
  if output.take.count != 1 or output.num_frames < config.num_frames:
    raise ValueError(
      f'Stage {decoder.config.spec.name!r} makes {output.num_frames} frames of'
      f' {output.take.count} levels; the protocol wants one level and'
      f' {config.num_frames} frames ({max(config.prompt_frames)} given,'
      f' {config.num_generated} made). Give the semantic stage, or shorter'
      ' prompts.'
    )


def _true_codes(
  decoder: StageDecoder, examples: Examples, config: MemorizationConfig
) -> Codes:
  name = decoder.config.layout.output.take.stream.name
  mask = examples.batch[batches.frame_mask_key(name)][:, : config.num_frames]
  if not mask.all():
    raise ValueError(
      f'{np.count_nonzero(~mask.all(axis=1))} of {len(mask)} examples of split'
      f' {examples.split!r} are shorter than {config.num_frames} frames; leave'
      ' them out or shorten the prompts.'
    )
  return examples.batch[batches.codes_key(name)][:, :, 0]


def _entropy_bits(tokens: Int[np.ndarray, ' frames']) -> float:
  return codebook_usage.measure(np.bincount(tokens)).entropy_bits


def summary(
  figures: PromptFigures, *, threshold: float
) -> Mapping[str, float | None]:
  """Shares and means of one length of prompt, by name.

  The mean entropy of what matches is `None` where nothing does.
  """
  matches = figures.costs < threshold
  entropies = figures.entropies
  return {
    'exact': float(figures.exact.mean()),
    'approximate': float(matches.mean()),
    'approximate_at_paper_threshold': float(
      np.mean(figures.costs < PAPER_THRESHOLD)
    ),
    'entropy_bits': float(entropies.mean()),
    'entropy_bits_of_matches': (
      float(entropies[matches].mean()) if matches.any() else None
    ),
    'lowest_cost': float(figures.costs.min()),
  }
