# SPDX-License-Identifier: Apache-2.0
"""The loader's examples as SeqIO tasks, for t5x and whatever else reads SeqIO.

Example g of a task is example g of the loader. Of n shards, shard i reads the
examples i, i + n, i + 2 n …, and no others: the shards' batches together are the
loader's global batch, in another order of rows. A `loader.Mixture` makes a task
like any corpus, and keeps its own interleaving; mixtures of SeqIO work too, with
SeqIO's.

Shapes: waveform [samples] and codes [frames, levels], without the padding of a
short clip; the converters (converters.py) pad.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import seqio
import tensorflow as tf

from musiclm_jax import batches as batches_lib
from musiclm_jax.data import loader, token_loader

Examples = loader.AudioBatches | loader.Mixture | token_loader.TokenBatches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
  """A feature of an example, in time.

  Attributes:
    mask: The entry of the loader's examples that says how much is there.
    dtype: Of the feature.
    shape: Of one time step.
  """

  mask: str
  dtype: tf.DType
  shape: tuple[int, ...] = ()


Fields = Mapping[str, Field]


class OrderedSource(seqio.DataSource):
  """A SeqIO data source in the loader's order.

  Not a FunctionDataSource: that one is sharded by reading everything and
  throwing most of it away. The order is the loader's, by its own seed, whatever
  `shuffle` and `seed` SeqIO is given: it is what makes restarts exact.
  """

  def __init__(self, examples: Mapping[str, Examples], *, fields: Fields):
    """Takes what is read for each split, opened, and what is in it."""
    # The number of examples is not told: SeqIO would keep a small epoch in
    # memory and repeat its crops for ever.
    super().__init__(
      splits=tuple(examples),
      caching_permitted=False,
      performs_internal_shuffling=True,
    )
    self._examples = dict(examples)
    self._fields = dict(fields)

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

    def read(number: np.int64) -> list[np.ndarray]:
      example = examples.examples(np.array([number]))
      return [
        example[name][0, : np.count_nonzero(example[field.mask])]
        for name, field in self._fields.items()
      ]

    @tf.autograph.experimental.do_not_convert
    def features(number: tf.Tensor) -> dict[str, tf.Tensor]:
      dtypes = [field.dtype for field in self._fields.values()]
      values = tf.numpy_function(read, [number], dtypes, stateful=False)
      return {
        name: tf.ensure_shape(value, [None, *field.shape])
        for (name, field), value in zip(self._fields.items(), values)
      }

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
  field = Field(mask=batches_lib.SAMPLE_MASK, dtype=tf.float32)
  return _add(name, examples, fields={batches_lib.WAVEFORM: field})


def add_token_task(
  name: str, *, examples: Mapping[str, token_loader.TokenBatches]
) -> seqio.Task:
  """Registers a task that yields the codes of a stage's streams.

  Args:
    name: Of the task, for `seqio.get_dataset(name, …)`.
    examples: By split, all of one stage.
  """
  specs = {source.spec for source in examples.values()}
  if len(specs) != 1:
    raise ValueError(
      f'Task {name!r} reads its splits for {len(specs)} stages; give all splits'
      ' the same one.'
    )
  fields = {
    batches_lib.codes_key(stream.name): Field(
      mask=batches_lib.frame_mask_key(stream.name),
      dtype=tf.int32,
      shape=(stream.num_codebooks,),
    )
    for stream in specs.pop().streams.values()
  }
  return _add(name, examples, fields=fields)


def _add(
  name: str, examples: Mapping[str, Examples], *, fields: Fields
) -> seqio.Task:
  return seqio.TaskRegistry.add(
    name,
    source=OrderedSource(examples, fields=fields),
    preprocessors=[],
    output_features={
      feature: seqio.ContinuousFeature(
        rank=1 + len(field.shape), dtype=field.dtype
      )
      for feature, field in fields.items()
    },
    # In order already: a shuffle buffer would undo it.
    shuffle_buffer_size=None,
  )
