# SPDX-License-Identifier: Apache-2.0
"""Fits the codebooks of MuLan's joint space to audio, and freezes them.

  musiclm fit mulan_rvq --gin_file=experiments/mulan_rvq_tiny.gin \\
    --gin.TRAINED="'runs/mulan'" --gin.CORPUS="'runs/tunebook'" \\
    --gin.MODEL_DIR="'runs/conditioner'"

MusicLM (Agostinelli et al., 2023), section 3.1: a residual quantizer over the
embeddings of audio, text goes through it as well. How it is trained is not
given. Ours: by moving averages from a k-means start, as SoundStream's, over the
windows of random crops and the mean direction of each crop, since stages read
both. What is published is one bundle, towers and codebooks: no later run moves
them.

Shapes: points [points, embed], unit vectors.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress
from absl import logging
from flax import linen as nn
from jaxtyping import Float

from musiclm_jax import batches as batches_lib
from musiclm_jax.array_types import PRNGKey
from musiclm_jax.checkpoints import bundle
from musiclm_jax.conditioning import base, mulan
from musiclm_jax.quantization import residual

Points = Float[np.ndarray, 'points embed']
Codebooks = dict[str, Any]  # Linen collections.

# Ours. With fewer points a code, held-out audio is far from all of them.
_PLENTY_POINTS_A_CODE = 10


def fit(
  *,
  trained: str | os.PathLike[str],
  model_dir: str | os.PathLike[str],
  crops: batches_lib.BatchSource,
  sample_rate_hz: int,
  num_crops: int,
  quantizer: residual.ResidualQuantizerConfig,
  batch_size: int,
  num_steps: int,
  hop_seconds: int = 1,
  seed: int = 0,
  gin_config: Callable[[], str] = str,
) -> str:
  """Embeds crops, fits codebooks to them and publishes a conditioner.

  Args:
    trained: Folder of the towers: a bundle of kind 'mulan'.
    model_dir: Folder of the conditioner's bundle.
    crops: Audio of the training split.
    sample_rate_hz: Of the crops.
    num_crops: How many to embed; fewer if `crops` ends before.
    quantizer: Sizes of the codebooks. Small corpora cannot fill the paper's 12
      levels of 1,024 codes: an error says so where a level has more codes than
      there are points, and a warning where it has hardly fewer.
    batch_size: Points of one step; the first ones start every level.
    num_steps: How often the averages move.
    hop_seconds: From one embedded window of a crop to the next.
    seed: Of the order of the points, the k-means start and the restarts.
    gin_config: Gives the operative config.

  Returns:
    The fingerprint of the bundle.
  """
  if quantizer.factorized_dim is not None:
    raise ValueError(
      f'factorized_dim is {quantizer.factorized_dim}, but projections are'
      ' trained by gradients and these codebooks by averages; set it to None.'
    )
  towers = bundle.load(trained, kind=base.TOWERS)
  space = mulan.MuLanSpace(towers.config.make_towers(towers.weights))
  rows = rich.progress.track(
    _rows(crops, num_crops=num_crops), description='Embedding', total=num_crops
  )
  points = np.concatenate(
    [
      crop_points(
        space, row, sample_rate_hz=sample_rate_hz, hop_seconds=hop_seconds
      )
      for row in rows
    ]
  )
  codebooks = fit_codebooks(
    points,
    config=quantizer,
    batch_size=batch_size,
    num_steps=num_steps,
    seed=seed,
  )
  config = mulan.MuLanConditionerConfig(
    towers=towers.config, quantizer=quantizer
  )
  contents = bundle.BundleContents(
    kind=base.CONDITIONER,
    config=config,
    weights={mulan.TOWERS: towers.weights, mulan.QUANTIZER: codebooks},
    stream_out=config.stream,
    trained_on={base.TRAINED_ON_TOWERS: towers.fingerprint},
  )
  fingerprint = bundle.publish(model_dir, contents, gin_config=gin_config())
  _log_use(points, base.load_conditioner(model_dir))
  return fingerprint


def crop_points(
  space: mulan.MuLanSpace,
  waveform: Float[np.ndarray, ' samples'],
  *,
  sample_rate_hz: int,
  hop_seconds: int,
) -> Points:
  """The windows of a crop and, if there are several, their mean direction."""
  windows = space.embed_windows(
    waveform, sample_rate_hz=sample_rate_hz, hop_seconds=hop_seconds
  )
  if len(windows) == 1:
    return windows
  return np.concatenate([windows, base.mean_direction(windows)[None]])


def fit_codebooks(
  points: Points,
  *,
  config: residual.ResidualQuantizerConfig,
  batch_size: int,
  num_steps: int,
  seed: int,
) -> Codebooks:
  """The collections of a quantizer that was fitted to `points`."""
  _require_enough(len(points), config=config)
  batch_size = min(batch_size, len(points))
  if batch_size < config.codebook_size:
    raise ValueError(
      f'batch_size is {batch_size}, but the first batch starts'
      f' {config.codebook_size} codes a level; raise it.'
    )
  module = residual.ResidualQuantizer(config, embed_dim=points.shape[1])
  key = jax.random.key(seed)
  variables = nn.unbox(
    jax.jit(module.init)(key, jnp.asarray(points[:1, None]), key=key)
  )
  order = np.random.default_rng(seed)
  for step in range(num_steps):
    batch = points[order.permutation(len(points))[:batch_size]]
    variables = _step(
      module, variables, batch[:, None], jax.random.fold_in(key, step)
    )
  return jax.device_get(variables)


@functools.partial(jax.jit, static_argnums=0)
def _step(
  module: residual.ResidualQuantizer,
  variables: Codebooks,
  batch: jax.Array,
  key: PRNGKey,
) -> Codebooks:
  """Moves the codebooks by one batch, [points, 1, embed]."""
  _, updates = module.apply(
    variables, batch, key=key, mutable=[residual.CODEBOOKS]
  )
  return {**variables, **updates}


def _rows(
  crops: batches_lib.BatchSource, *, num_crops: int
) -> Iterator[Float[np.ndarray, ' samples']]:
  """The first crops one by one, without padding."""
  rows = (
    waveform[: int(mask.sum())]
    for batch in crops.batches(0)
    for waveform, mask in zip(
      batch[batches_lib.WAVEFORM], batch[batches_lib.SAMPLE_MASK]
    )
    if mask.any()  # A row past the last clip has no audio.
  )
  return itertools.islice(rows, num_crops)


def _require_enough(
  num_points: int, *, config: residual.ResidualQuantizerConfig
) -> None:
  size = config.codebook_size
  if num_points < size:
    raise ValueError(
      f'{num_points} points cannot fill {size} codes a level; embed more crops'
      f' (num_crops), or set codebook_size to'
      f' {max(2, num_points // _PLENTY_POINTS_A_CODE)}.'
    )
  if num_points < _PLENTY_POINTS_A_CODE * size:
    logging.warning(
      '%d points for %d codes a level are %.1f a code; with fewer than %d,'
      ' held-out audio is far from all codes.',
      num_points,
      size,
      num_points / size,
      _PLENTY_POINTS_A_CODE,
    )


def _log_use(points: Points, conditioner: base.Conditioner) -> None:
  """How many codes the points left unused, and how near their codes are."""
  codes = conditioner.quantize(points)
  size = conditioner.stream.codebook_size
  used = [len(np.unique(level)) for level in codes[:, 0].T]
  cosines = np.sum(points * conditioner.dequantize(codes), axis=-1)
  logging.info(
    '%d points; codes in use by level: %s of %d; mean cosine of a point and its'
    ' codes: %.4f.',
    len(points),
    ', '.join(map(str, used)),
    size,
    float(np.mean(cosines)),
  )
