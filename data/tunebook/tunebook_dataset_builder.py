# SPDX-License-Identifier: Apache-2.0
"""The embedded default data set, rendered folk tunes and chorales, in TFDS."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from musiclm_jax.data import tfds_examples
from musiclm_jax.data.sources import ClipSource
from musiclm_jax.data.tasks.tunebook import Tunebook

# As in gin/data/tunebook.gin: a hundredth of the tunes cannot be read.
_MAX_BAD_SHARE = 0.02
_TEXTS = (
  'title',
  'tune_type',
  'meter',
  'key',
  'mode',
  'dynamics',
  'tempo_beat',
)


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
  """How much is rendered; as the fields of `Tunebook`."""

  max_tunes: int | None = None
  renderings_per_tune: int = 1


class Builder(tfds.core.GeneratorBasedBuilder):
  """Folk tunes and chorales, rendered; a fact that is not known is ''."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = [
    Config(name='full', description='Every tune, one rendering of each.'),
    Config(name='small', description='Sixty tunes.', max_tunes=60),
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {
          **tfds_examples.features(),
          **dict.fromkeys(_TEXTS, text),
          'instruments': tfds.features.Sequence(text),
          'families': tfds.features.Sequence(text),
          'tempo_bpm': np.int32,
          'notes': tfds.features.Sequence(
            {
              'onset_seconds': np.float32,
              'duration_seconds': np.float32,
              'pitch': np.int32,
              'part': np.int32,
            }
          ),
        }
      )
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator]:
    del dl_manager  # Everything comes out of pip packages.
    config = self.builder_config
    source = Tunebook(
      max_tunes=config.max_tunes,
      renderings_per_tune=config.renderings_per_tune,
    )
    return {
      split: self._generate_examples(source, split)
      for split in tfds_examples.splits(source)
    }

  def _generate_examples(
    self, source: ClipSource, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, example in tfds_examples.examples(
      source, split=split, max_bad_share=_MAX_BAD_SHARE
    ):
      facts = json.loads(example['facts'])
      yield (
        key,
        {
          **example,
          **{name: facts[name] or '' for name in _TEXTS},
          **{
            name: facts[name]
            for name in ('instruments', 'families', 'tempo_bpm', 'notes')
          },
        },
      )
