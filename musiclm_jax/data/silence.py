# SPDX-License-Identifier: Apache-2.0
"""A second of silence, as every kind of data a run may read.

For what asks of a run no more than the form of its batches: a plan, a test.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from musiclm_jax.data import corpus, sources, token_writer, writer
from musiclm_jax.streams import TokenStream

_SAMPLE_RATE_HZ = 24000
_BERT_TOKENS = 30522  # Of BERT-base, uncased.
_SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')


@dataclasses.dataclass(frozen=True)
class Silence:
  """A clip a split, with a text of every kind; a `ClipSource`."""

  name: str = 'silence'

  def clips(self) -> list[sources.ClipRef]:
    return [
      sources.ClipRef(id=split, split=split, group=split)
      for split in ('train', 'validation', 'test')
    ]

  def load(self, ref: sources.ClipRef) -> sources.Clip:
    del ref
    return sources.Clip(
      waveform=np.full(_SAMPLE_RATE_HZ, 0.5, np.float32),
      sample_rate_hz=_SAMPLE_RATE_HZ,
      captions=('silence',),
    )


class SilentEncoder:
  """Code 0 of every stream of MusicLM (2023), section 4.1; a `ClipEncoder`."""

  streams = tuple(
    TokenStream(
      name=name,
      rate_hz=rate_hz,
      num_codebooks=num_codebooks,
      codebook_size=1024,
      fingerprint=f'of {model}',
    )
    for name, rate_hz, num_codebooks, model in (
      ('mulan', None, 12, 'MuLan'),
      ('semantic', 25, 1, 'w2v-BERT'),
      ('acoustic', 50, 12, 'SoundStream'),
    )
  )
  codebooks = {
    stream.name: np.random.default_rng(0)
    .normal(size=(stream.num_codebooks, stream.codebook_size, 2))
    .astype(np.float32)
    for stream in streams
  }

  def encode(
    self,
    waveform: np.ndarray,
    *,
    sample_rate_hz: int,
    condition_seconds: tuple[int, ...],
  ) -> dict[str, np.ndarray]:
    del waveform, sample_rate_hz
    return {
      'mulan': np.zeros((1, len(condition_seconds), 12), np.int32),
      'semantic': np.zeros((25, 1), np.int32),
      'acoustic': np.zeros((50, 12), np.int32),
    }


def write_all(folder: pathlib.Path) -> dict[str, str]:
  """Writes a corpus, a token corpus and a vocabulary of BERT's size.

  Returns:
    What gin files call each, and where it is; with names for what a run writes.
  """
  audio, tokens, bert = (folder / n for n in ('corpus', 'tokens', 'bert'))
  writer.write_corpus(
    Silence(),
    audio,
    sample_rate_hz=_SAMPLE_RATE_HZ,
    num_workers=0,
    show_progress=False,
  )
  token_writer.write_token_corpus(
    corpus.AudioCorpus(audio), SilentEncoder(), tokens, show_progress=False
  )
  bert.mkdir()
  pieces = [f'piece{n}' for n in range(_BERT_TOKENS - len(_SPECIAL))]
  (bert / 'vocab.txt').write_text('\n'.join([*_SPECIAL, *pieces]))
  return {
    'CORPUS': str(audio),
    'TOKENS': str(tokens),
    'BERT': str(bert),
    'MODEL_DIR': 'MODEL_DIR',
    'TRAINED': 'TRAINED',
    'WARM_START': 'WARM_START',
  }
