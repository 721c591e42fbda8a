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


def splits(
  source: ClipSource, *, max_bad_share: float = writer.MAX_BAD_SHARE
) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
  """Keyed examples of every split of a source."""
  return {
    split: _examples(source, split, max_bad_share)
    for split in sorted({ref.split for ref in source.clips()})
  }


def _examples(
  source: ClipSource, split: str, max_bad_share: float
) -> Iterator[tuple[str, dict[str, Any]]]:
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
  if not rejected:
    return
  counts = ', '.join(f'{n} {reason}' for reason, n in rejected.most_common())
  told = (
    f'{source.name}: rejected {rejected.total()} of {len(refs)} clips of'
    f' {split!r}: {counts}'
  )
  logging.warning('%s.', told)
  if rejected.total() > max_bad_share * len(refs):
    raise ValueError(
      f'{told}; the allowed share is {max_bad_share:g}. Mend them, or raise'
      ' max_bad_share in the builder.'
    )
