# SPDX-License-Identifier: Apache-2.0
import collections

import pytest

from musiclm_jax.cli import flags
from musiclm_jax.cli import prompts as verb
from musiclm_jax.data import sources
from musiclm_jax.data.tunebook import instruments
from musiclm_jax.evaluation import prompts
from tests.data import toys
from tests.data.tasks import test_musiccaps

KNOWN = {
  'aspect',
  'families',
  'absent_families',
  'families_in_order',
  'tempo_bpm',
  'meter',
}


def write(tmp_path, *options):
  output = tmp_path / 'set.jsonl'
  verb.main([*map(str, options), f'--output={output}'])
  return prompts.read(output)


def test_our_prompts_have_ten_of_each_aspect_and_facts_that_can_be_checked(
  tmp_path,
):
  found = write(tmp_path)
  aspects = collections.Counter(p.facts['aspect'] for p in found)
  assert len(aspects) == 6 and set(aspects.values()) == {10}
  assert len({prompt.text for prompt in found}) == 60
  for prompt in found:
    assert set(prompt.facts) <= KNOWN
    for name in ('families', 'absent_families', 'families_in_order'):
      assert set(prompt.facts.get(name, ())) <= set(instruments.FAMILIES)
    if 'tempo_bpm' in prompt.facts:
      assert f'{prompt.facts["tempo_bpm"]} BPM' in prompt.text or (
        prompt.facts['aspect'] != 'tempo'
      )
    assert prompt.facts.get('meter', '') in prompt.text


def test_prompts_are_spread_over_a_set(tmp_path):
  six = write(tmp_path, '--num=6')
  assert len({prompt.facts['aspect'] for prompt in six}) == 6
  with pytest.raises(flags.UsageError, match='--num is 61; there are 60'):
    write(tmp_path, '--num=61')


def test_captions_of_musiccaps(tmp_path):
  (tmp_path / 'table.csv').write_text(test_musiccaps.TABLE)
  options = ['--musiccaps', tmp_path / 'table.csv']
  assert [p.text for p in write(tmp_path, *options)] == [
    'A voice, sad.',
    'Missing on YouTube.',
  ]
  (balanced,) = write(tmp_path, *options, '--balanced')
  assert balanced.text == 'Missing on YouTube.'
  assert balanced.reference == '0Z-1Ab'


def test_the_balanced_subset_is_of_musiccaps_alone(tmp_path):
  with pytest.raises(flags.UsageError, match='--balanced is of --musiccaps'):
    write(tmp_path, '--balanced')


def test_captions_of_a_corpus_are_one_a_tune_with_their_facts(tmp_path):
  toys.write(tmp_path / 'corpus', toys.Sines(num_clips=11))
  found = write(tmp_path, '--corpus', tmp_path / 'corpus', '--split=train')
  source = toys.Sines(num_clips=11)
  groups = {r.group for r in source.clips() if r.split == sources.TRAIN}
  assert len(found) == len(groups)
  assert found[0].reference == source.clips()[0].id
  assert all(prompt.text for prompt in found)
