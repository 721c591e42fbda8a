# SPDX-License-Identifier: Apache-2.0
"""MusicCaps as a TFDS data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from musiclm_jax.data import tfds_examples
from musiclm_jax.data.sources import ClipSource
from musiclm_jax.data.tasks.musiccaps import MusicCaps


class Builder(tfds.core.GeneratorBasedBuilder):
  """5,521 clips of 10 s with captions by musicians."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  musiccaps-public.csv, and audio/<ytid>.wav (or another format) for the clips
  whose audio you have, each cut to the 10 s that are described.
  """

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(features=tfds_examples.features())

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator]:
    folder = dl_manager.manual_dir
    source = MusicCaps(
      csv_path=str(folder / 'musiccaps-public.csv'),
      audio_dir=str(folder / 'audio'),
    )
    return {
      split: self._generate_examples(source, split)
      for split in tfds_examples.splits(source)
    }

  def _generate_examples(
    self, source: ClipSource, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    return tfds_examples.examples(source, split=split, max_bad_share=0.2)
