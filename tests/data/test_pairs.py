# SPDX-License-Identifier: Apache-2.0
import collections
import dataclasses

import numpy as np
import pytest

from musiclm_jax.data import corpus as corpus_lib
from musiclm_jax.data import loader, pairs, sources
from tests.data import toys

CLIPS = 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Songs:
  """Clip n: n captions of which one is blank, tags if n is odd, a title."""

  name: str = 'songs'

  def clips(self):
    return [
      sources.ClipRef(id=str(n), split='train', group=str(n))
      for n in range(CLIPS)
    ]

  def load(self, ref):
    n = int(ref.id)
    waveform = toys.Sines().waveform(n)
    captions = [f'caption {n} {i}' for i in range(n)]
    facts = {'tags': [f'tag{n}', 'folk']} if n % 2 else {'tags': []}
    return sources.Clip(
      waveform=waveform,
      sample_rate_hz=toys.RATE_HZ,
      captions=tuple(captions[:-1] + ['  '] if captions else ()),
      facts=facts | {'title': f'title {n}', 'bpm': 90},
    )


def letters(texts, *, num_tokens):
  """A tokenizer that anybody can read back."""
  ids = np.zeros((len(texts), num_tokens), np.int32)
  for row, text in enumerate(texts):
    codes = [ord(letter) for letter in text][:num_tokens]
    ids[row, : len(codes)] = codes
  return ids, ids > 0


def texts_of(batch):
  return [''.join(map(chr, row[row > 0])) for row in batch['text_tokens']]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  directory = tmp_path_factory.mktemp('songs')
  toys.write(directory, Songs())
  return directory


def batches(folder, *, crops='random', batch_size=10, seed=3, mix=None):
  audio = loader.AudioBatches(
    folder,
    split='train',
    window_seconds=1,
    batch_size=batch_size,
    crops=crops,
    seed=seed,
  )
  return pairs.PairBatches(audio, tokenizer=letters, num_tokens=23, mix=mix)


def test_a_row_has_the_audio_and_a_text_of_one_clip(folder):
  source = batches(folder, batch_size=210)
  batch = next(source.batches(0))
  assert batch['waveform'].shape == batch['sample_mask'].shape
  assert batch['text_tokens'].shape == (210, 23)
  seen = collections.defaultdict(set)
  for waveform, text in zip(batch['waveform'], texts_of(batch)):
    # The tone tells the clip: 31 + n Hz.
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    n = round(np.argmax(spectrum) * toys.RATE_HZ / len(waveform)) - 31
    seen[n].add(text)
  # The last caption of each is blank, and clips 0 and 1 have no other.
  for n in range(CLIPS):
    assert seen[n] == {f'caption {n} {i}' for i in range(n - 1)} or n < 2
  assert seen[0] == seen[1] == {''}


def test_a_clip_without_text_is_a_row_without_a_valid_token(folder):
  source = batches(folder, crops='fixed', batch_size=4)
  first, second = source.batches(0)
  assert first['text_mask'].any(1).tolist() == [False, False, True, True]
  # The last row stands beyond the last clip.
  assert second['text_mask'].any(1).tolist() == [True, True, True, False]
  assert not second['sample_mask'][3].any()
  assert first['sample_mask'].any(1).all()


def test_fixed_crops_have_the_first_text(folder):
  source = batches(folder, crops='fixed', mix={'title': 1, 'captions': 5})
  (batch,) = source.batches(0)
  assert texts_of(batch)[:CLIPS] == [f'title {n}' for n in range(CLIPS)]


def test_kinds_are_drawn_by_weight_among_those_that_the_clip_has(folder):
  source = batches(folder, mix={'captions': 3, 'tags': 1})
  texts = source.texts(np.arange(CLIPS * 400))
  clips = source._audio.clips_of(np.arange(CLIPS * 400))
  kinds = collections.Counter(
    (clip, text.split()[0]) for clip, text in zip(clips, texts) if text
  )
  # Clip 5 has both, clip 4 captions alone, clip 1 tags alone.
  assert kinds[5, 'caption'] + kinds[5, 'tag5,'] == 400
  assert 0.7 < kinds[5, 'caption'] / 400 < 0.8
  assert kinds[4, 'caption'] == 400
  assert kinds[1, 'tag1,'] == 400
  assert 'tag5, folk' in texts
  assert (0, 'caption') not in kinds


def test_examples_are_a_function_of_seed_and_position(folder):
  whole = [batch for batch, _ in zip(batches(folder).batches(0), range(4))]
  later = next(batches(folder).batches(3))
  for key, values in whole[3].items():
    np.testing.assert_array_equal(later[key], values)
  halves = [
    next(batches(folder).batches(2, process_index=i, process_count=2))
    for i in range(2)
  ]
  for key, values in whole[2].items():
    joined = np.concatenate([half[key] for half in halves])
    np.testing.assert_array_equal(joined, values)
  other = next(batches(folder, seed=4).batches(3))
  assert texts_of(other) != texts_of(later)


def test_texts_for_a_vocabulary_are_all_of_a_split(folder):
  found = pairs.corpus_texts(folder, split='train', mix={'captions': 1})
  assert sorted(found) == sorted(
    f'caption {n} {i}' for n in range(CLIPS) for i in range(n - 1)
  )
  assert len(pairs.corpus_texts(folder, split='train', mix={'tags': 1})) == 3
  with pytest.raises(
    ValueError, match=r"has a text of the kinds.*\['lyrics'\]"
  ):
    pairs.corpus_texts(folder, split='train', mix={'lyrics': 1})


def test_a_mix_without_weight_is_an_error(folder):
  for mix in ({}, {'captions': 0}):
    with pytest.raises(ValueError, match='above 0'):
      pairs.Texts(corpus_lib.AudioCorpus(folder), mix=mix)
