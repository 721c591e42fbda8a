# SPDX-License-Identifier: Apache-2.0
"""Any `ClipSource` as TFDS examples: what the builders in data/ share.

The checks are those of a corpus on disk. Training reads corpora (writer.py),
from which crops are faster to draw; this is for users of TFDS.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from musiclm_jax.data import shards, writer
from musiclm_jax.data.sources import ClipSource, RejectedClip

# Ours: the codec's rate.
SAMPLE_RATE_HZ = 24000


def features() -> tfds.features.FeaturesDict:
  """Audio is int16 [samples] at `SAMPLE_RATE_HZ`; facts are JSON text."""
  text = tfds.features.Text()
  return tfds.features.FeaturesDict(
    {
      'id': text,
      'group': text,
      'audio': tfds.features.Audio(
        shape=(None,), sample_rate=SAMPLE_RATE_HZ, dtype=np.int16
      ),
      'captions': tfds.features.Sequence(text),
      'facts': text,
    }
  )


def splits(source: ClipSource) -> list[str]:
  return sorted({ref.split for ref in source.clips()})


def examples(
  source: ClipSource,
  *,
  split: str,
  max_bad_share: float = writer.MAX_BAD_SHARE,
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Keyed examples of a split. Bad clips are counted, and reported at the end.

  Raises:
    ValueError: More than `max_bad_share` of the clips are bad.
  """
  refs = [ref for ref in source.clips() if ref.split == split]
  settings = shards.ShardSettings(sample_rate_hz=SAMPLE_RATE_HZ)
  rejected = collections.Counter()
  for ref in refs:
    try:
      clip = shards.load(source, ref)
      prepared = shards.prepare(clip, settings=settings)
    except RejectedClip as error:
      logging.warning('%s: %s', ref.id, error)
      rejected[error.reason] += 1
      continue
    yield (
      ref.id,
      {
        'id': ref.id,
        'group': ref.group,
        'audio': prepared.samples,
        'captions': list(clip.captions),
        'facts': json.dumps(dict(clip.facts)),
      },
    )
  if rejected:
    _report(source.name, split, rejected, len(refs), max_bad_share)


def _report(
  name: str,
  split: str,
  rejected: collections.Counter,
  num_clips: int,
  max_bad_share: float,
) -> None:
  counts = ', '.join(f'{n} {reason}' for reason, n in rejected.most_common())
  told = (
    f'{name}: rejected {rejected.total()} of {num_clips} clips of {split!r}:'
    f' {counts}'
  )
  logging.warning('%s.', told)
  if rejected.total() > max_bad_share * num_clips:
    raise ValueError(
      f'{told}; the allowed share is {max_bad_share:g}. Mend them, or raise'
      ' max_bad_share in the builder.'
    )
