# SPDX-License-Identifier: Apache-2.0
"""FMA as a TFDS data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from musiclm_jax.data import tfds_examples
from musiclm_jax.data.sources import ClipSource
from musiclm_jax.data.tasks.fma import Fma


class Builder(tfds.core.GeneratorBasedBuilder):
  """The large subset of FMA: 30 s clips of 106,574 tracks."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  Unpack fma_metadata.zip (as fma_metadata/) and fma_large.zip (as fma_large/)
  from https://github.com/mdeff/fma.
  """

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(features=tfds_examples.features())

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator]:
    folder = dl_manager.manual_dir
    source = Fma(
      metadata_dir=str(folder / 'fma_metadata'),
      audio_dir=str(folder / 'fma_large'),
    )
    return {
      split: self._generate_examples(source, split)
      for split in tfds_examples.splits(source)
    }

  def _generate_examples(
    self, source: ClipSource, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    return tfds_examples.examples(source, split=split)
