# SPDX-License-Identifier: Apache-2.0
"""A folder of the user's own audio as a TFDS data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from musiclm_jax.data import tfds_examples
from musiclm_jax.data.sources import ClipSource
from musiclm_jax.data.tasks.folder import Folder


class Builder(tfds.core.GeneratorBasedBuilder):
  """A folder of the user's own audio, with captions if there are any."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  The folder itself: audio files at any depth, and captions.csv or
  captions.jsonl if there are captions.
  """

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(features=tfds_examples.features())

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator]:
    folder = dl_manager.manual_dir
    source = Folder(directory=str(folder))
    return {
      split: self._generate_examples(source, split)
      for split in tfds_examples.splits(source)
    }

  def _generate_examples(
    self, source: ClipSource, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    return tfds_examples.examples(source, split=split)
