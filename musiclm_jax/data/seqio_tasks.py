# SPDX-License-Identifier: Apache-2.0
"""The loader's examples as SeqIO tasks, for t5x and whatever else reads SeqIO.

Example g of a task is example g of the loader. Of n shards, shard i reads the
examples i, i + n, i + 2 n …, and no others: the shards' batches together are the
loader's global batch, in another order of rows. A `loader.Mixture` makes a task
like any corpus, and keeps its own interleaving; mixtures of SeqIO work too, with
SeqIO's.

Shapes: waveform [samples], without the padding of a short clip; the converter
(converters.py) pads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seqio
import tensorflow as tf

from musiclm_jax import batches as batches_lib
from musiclm_jax.data import loader

Examples = loader.AudioBatches | loader.Mixture


class OrderedSource(seqio.DataSource):
  """A SeqIO data source in the loader's order.

  Not a FunctionDataSource: that one is sharded by reading everything and
  throwing most of it away. The order is the loader's, by its own seed, whatever
  `shuffle` and `seed` SeqIO is given: it is what makes restarts exact.
  """

  def __init__(self, examples: Mapping[str, Examples]):
    """Takes what is read for each split, opened."""
    # The number of examples is not told: SeqIO would keep a small epoch in
    # memory and repeat its crops for ever.
    super().__init__(
      splits=tuple(examples),
      caching_permitted=False,
      performs_internal_shuffling=True,
    )
    self._examples = dict(examples)

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return True

  def list_shards(self, split: str) -> list[str]:
    return [split]

  def get_dataset(
    self,
    split: str = 'train',
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused: object,
  ) -> tf.data.Dataset:
    examples = self._examples[split]
    shard = shard_info or seqio.ShardInfo(index=0, num_shards=1)
    end = examples.num_examples
    numbers = tf.data.Dataset.range(
      shard.index,
      np.iinfo(np.int64).max if end is None else end,
      shard.num_shards,
    )

    def read(number: np.int64) -> np.ndarray:
      example = examples.examples(np.array([number]))
      mask = example[batches_lib.SAMPLE_MASK][0]
      return example[batches_lib.WAVEFORM][0, : np.count_nonzero(mask)]

    @tf.autograph.experimental.do_not_convert
    def features(number: tf.Tensor) -> dict[str, tf.Tensor]:
      waveform = tf.numpy_function(read, [number], tf.float32, stateful=False)
      return {batches_lib.WAVEFORM: tf.ensure_shape(waveform, [None])}

    return numbers.map(
      features, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


def add_audio_task(
  name: str, *, examples: Mapping[str, Examples]
) -> seqio.Task:
  """Registers a task that yields waveforms.

  Args:
    name: Of the task, for `seqio.get_dataset(name, …)`.
    examples: By split; random crops never end, fixed crops are one pass.
  """
  return seqio.TaskRegistry.add(
    name,
    source=OrderedSource(examples),
    preprocessors=[],
    output_features={
      batches_lib.WAVEFORM: seqio.ContinuousFeature(rank=1, dtype=tf.float32)
    },
    # In order already: a shuffle buffer would undo it.
    shuffle_buffer_size=None,
  )
