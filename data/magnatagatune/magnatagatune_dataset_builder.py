# SPDX-License-Identifier: Apache-2.0
"""MagnaTagATune as a TFDS data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from musiclm_jax.data import tfds_examples
from musiclm_jax.data.sources import ClipSource
from musiclm_jax.data.tasks.magnatagatune import MagnaTagATune


class Builder(tfds.core.GeneratorBasedBuilder):
  """25,863 clips of 29 s with tags."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  annotations_final.csv, and mp3/ with the folders 0 to f of the three joined
  parts of mp3.zip.
  """

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(features=tfds_examples.features())

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator]:
    folder = dl_manager.manual_dir
    source = MagnaTagATune(
      annotations_csv=str(folder / 'annotations_final.csv'),
      audio_dir=str(folder / 'mp3'),
    )
    return {
      split: self._generate_examples(source, split)
      for split in tfds_examples.splits(source)
    }

  def _generate_examples(
    self, source: ClipSource, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    return tfds_examples.examples(source, split=split)
