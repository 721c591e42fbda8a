# SPDX-License-Identifier: Apache-2.0
import collections
import pathlib
import pickle
from collections.abc import Iterator

import pytest

from musiclm_jax.data import sources
from musiclm_jax.data.tasks import tunebook
from musiclm_jax.data.tunebook import catalogue
from tests.data.tunebook import pieces


@pytest.fixture
def small_corpus(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
  """Thirty made-up reels beside one of everything."""
  folder = pieces.write_folder(tmp_path)
  text = ''.join(
    pieces.REEL.format(
      number=n,
      title=f'Reel {n:03}',
      bar=f'{"ABcdef"[n % 6]}4 {"CDEFG"[n % 5]}4',
    )
    for n in range(30)
  )
  (folder / 'airdsAirs' / 'book3.abc').write_text(text)
  monkeypatch.setattr(catalogue, 'corpus_folder', lambda: folder)
  tunebook._catalogue.cache_clear()
  yield
  tunebook._catalogue.cache_clear()


@pytest.mark.usefixtures('small_corpus')
def test_every_tune_has_its_renderings_in_one_split():
  source = tunebook.Tunebook(renderings_per_tune=3)
  clips = source.clips()
  assert clips == source.clips()
  assert len(clips) == 3 * 39
  assert len({clip.id for clip in clips}) == len(clips)
  splits = collections.defaultdict(set)
  for clip in clips:
    splits[clip.group].add(clip.split)
  assert {len(found) for found in splits.values()} == {1}


@pytest.mark.usefixtures('small_corpus')
def test_a_draw_has_its_size_every_split_and_no_unreadable_tune():
  source = tunebook.Tunebook(max_tunes=7)
  everything = {clip.id: clip for clip in tunebook.Tunebook().clips()}
  clips = source.clips()
  assert clips == source.clips()
  assert all(everything[clip.id] == clip for clip in clips)
  for clip in clips:
    name, _, _ = clip.id.rpartition('/')
    folder = catalogue.corpus_folder()
    assert catalogue.read_tune(name, folder=folder).score


@pytest.mark.usefixtures('small_corpus')
def test_some_splits_alone_are_those_of_the_whole():
  whole = tunebook.Tunebook(max_tunes=7).clips()
  held_out = tunebook.Tunebook(max_tunes=7, splits=('validation', 'test'))
  wanted = [clip for clip in whole if clip.split != 'train']
  assert held_out.clips() == wanted
  assert 0 < len(wanted) < len(whole)


@pytest.mark.usefixtures('small_corpus')
def test_it_loads_from_a_pickle_and_rejects_what_it_cannot_read():
  source = pickle.loads(pickle.dumps(tunebook.Tunebook(seed=3)))
  clips = {clip.id: clip for clip in source.clips()}
  clip = source.load(clips['ryansMammoth/MadeUpJig.abc/1/0'])
  assert clip.sample_rate_hz == 24_000
  assert clip.facts['title'] == 'The Made-up Jig'
  with pytest.raises(sources.RejectedClip, match='unreadable.*several voices'):
    source.load(clips['airdsAirs/book1.abc/2/0'])


@pytest.mark.usefixtures('small_corpus')
def test_what_nobody_can_play_is_counted(monkeypatch: pytest.MonkeyPatch):
  def refuse(*_: object, **__: object) -> None:
    raise ValueError('No instrument reaches it.')

  monkeypatch.setattr(tunebook.rendering, 'render_tune', refuse)
  source = tunebook.Tunebook()
  with pytest.raises(sources.RejectedClip, match='unplayable: No instrument'):
    source.load(source.clips()[0])


@pytest.mark.parametrize(
  'fields',
  [{'max_tunes': 2}, {'renderings_per_tune': 0}, {'splits': ('held-out',)}],
)
def test_what_cannot_be_drawn_is_an_error(fields: dict[str, object]):
  with pytest.raises(ValueError, match=next(iter(fields))):
    tunebook.Tunebook(**fields)
