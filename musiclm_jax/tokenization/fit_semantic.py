# SPDX-License-Identifier: Apache-2.0
"""Fits semantic codes to the activations of a trained w2v-BERT.

  musiclm fit semantic --gin_file=experiments/semantic_tokens_tiny.gin \\
    --gin.TRAINED="'runs/w2v_bert'" --gin.CORPUS="'runs/tunebook'" \\
    --gin.MODEL_DIR="'runs/semantic'"

AudioLM (Borsos et al., 2022), section III-B: each dimension of the activations
is brought to mean 0 and variance 1, then k-means. A block of points is a batch
of crops; it stays where it was made, split over the devices of the mesh as the
batch is. What is published is one bundle: the blocks of the model that are
needed, the scaler and the centroids.

Shapes: features [batch, frames, embed], points [points, embed].
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import rich.progress

from musiclm_jax import batches as batches_lib
from musiclm_jax.checkpoints import bundle
from musiclm_jax.quantization import scaled_kmeans
from musiclm_jax.quantization import streamed_kmeans as streamed
from musiclm_jax.semantic import base, tokenizer
from musiclm_jax.training.partitioning import Partitioner


def fit(
  *,
  trained: str | os.PathLike[str],
  model_dir: str | os.PathLike[str],
  crops: batches_lib.BatchSource,
  num_batches: int,
  num_mlm_blocks: int,
  start: streamed.Start,
  clustering: streamed.Lloyd | streamed.MiniBatch,
  window_seconds: int = 30,
  margin_seconds: int = 5,
  bucket_seconds: int = 5,
  partitioner: Partitioner | None = None,
  seed: int = 0,
  gin_config: Callable[[], str] = str,
) -> str:
  """Fits a scaler and centroids, and publishes a tokenizer.

  Args:
    trained: Folder of the model: a bundle of kind 'w2v_bert'.
    model_dir: Folder of the tokenizer's bundle.
    crops: Audio of the training split, at the model's rate.
    num_batches: How many to read; fewer if `crops` ends before.
    num_mlm_blocks: After how many blocks of the MLM stack features are read.
    start: How many centroids, and where they begin.
    clustering: Whole passes over points in memory, or mini-batches.
    window_seconds: Of audio that the tokenizer reads at once.
    margin_seconds: Dropped of a window next to another one.
    bucket_seconds: What the tokenizer fills lengths up to a multiple of.
    partitioner: The mesh; all devices along 'data' if left out.
    seed: Of the sample that centroids begin with.
    gin_config: Gives the operative config.

  Returns:
    The fingerprint of the bundle.
  """
  model = bundle.load(trained, kind=base.TRAINED)
  config = tokenizer.SemanticTokenizerConfig(
    model=model.config,
    num_mlm_blocks=num_mlm_blocks,
    num_clusters=start.num_clusters,
    window_seconds=window_seconds,
    margin_seconds=margin_seconds,
    bucket_seconds=bucket_seconds,
  )
  params = config.needed(model.weights[tokenizer.PARAMS])
  features = Features(
    config,
    params,
    crops=crops,
    num_batches=num_batches,
    partitioner=partitioner or Partitioner(),
  )
  scaler, clusters = scaled_kmeans.fit(
    features, start=start, clustering=clustering, key=jax.random.key(seed)
  )
  return bundle.publish(
    model_dir,
    bundle.BundleContents(
      kind=base.TOKENIZER,
      config=config,
      weights={
        tokenizer.PARAMS: params,
        tokenizer.SCALER: {'mean': scaler.mean, 'deviation': scaler.deviation},
        tokenizer.CENTROIDS: clusters.centroids,
      },
      stream_out=config.stream,
      trained_on={base.TRAINED: model.token_space},
    ),
    gin_config=gin_config(),
  )


class Features:
  """The activations of crops, block by block, the same in every pass."""

  def __init__(
    self,
    config: tokenizer.SemanticTokenizerConfig,
    params: Any,
    *,
    crops: batches_lib.BatchSource,
    num_batches: int,
    partitioner: Partitioner,
  ):
    rate_hz = getattr(crops, 'sample_rate_hz', config.model.sample_rate_hz)
    if rate_hz != config.model.sample_rate_hz:
      raise ValueError(
        f'The model takes {config.model.sample_rate_hz} Hz, but the crops are'
        f' at {rate_hz} Hz; give their source that sample_rate_hz.'
      )
    self._crops = crops
    self._num_batches = num_batches
    self._partitioner = partitioner
    with partitioner.entered():
      self._params = jax.device_put(params, partitioner.replicated)
    self._extract = jax.jit(functools.partial(_block, config))

  def __call__(self) -> Iterator[streamed.Block]:
    place = self._partitioner.process_rows(self._crops.batch_size)
    batches = itertools.islice(
      self._crops.batches(0, process_index=place[0], process_count=place[1]),
      self._num_batches,
    )
    for rows in rich.progress.track(
      batches,
      description='Listening',
      total=self._num_batches,
      disable=jax.process_index() > 0,
    ):
      batch = self._partitioner.place_batch(
        rows, batch_size=self._crops.batch_size
      )
      with self._partitioner.entered():
        block = self._extract(self._params, batch)
      yield block


def _block(
  config: tokenizer.SemanticTokenizerConfig,
  params: Any,
  batch: dict[str, jax.Array],
) -> streamed.Block:
  """The frames of a batch as points, each row after the other."""
  sample_mask = batch[batches_lib.SAMPLE_MASK]
  features = config.features(
    params, batch[batches_lib.WAVEFORM], sample_mask=sample_mask
  )
  mask = config.model.frame_mask(sample_mask)
  return streamed.Block(
    points=features.reshape(-1, features.shape[-1]), mask=mask.reshape(-1)
  )
