# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.stages import codebooks
from musiclm_jax.stages.objective import StageObjective
from tests.stages import toys

DRAWS = np.random.default_rng(0)
# In two directions the codes of a level lie on a line and far apart.
LINE = np.linspace(-1, 1, 11)[:, None] * np.array([[3.0, 4.0]])
FAST = np.stack([LINE[DRAWS.permutation(11)] for _ in range(4)])
SLOW = DRAWS.normal(size=(1, 7, 5))
BOOKS = {'fast': FAST.astype(np.float32), 'slow': SLOW.astype(np.float32)}
CONFIG = toys.config(embed_dim=62)
LAYOUT = CONFIG.layout


def tables(**options):
  """Both tables of a fresh model, as training makes it."""
  objective = StageObjective(model=CONFIG, **options)
  made = jax.jit(objective.init)(jax.random.key(0), toys.batch(2))
  params = made['params']
  names = params['logit_table'].names, params['inputs']['table'].names
  assert names == (('vocab', 'embed'),) * 2
  params = meta.unbox(params)
  return np.asarray(params['inputs']['table']), np.asarray(
    params['logit_table']
  )


def rows(table, name, level):
  first = LAYOUT.first_ids[name, level]
  return table[first : first + LAYOUT.spec.streams[name].codebook_size]


def test_codes_of_near_vectors_begin_near_each_other_in_both_tables():
  for plain, started in zip(tables(), tables(codebooks=BOOKS), strict=True):
    for name, level in (('fast', 0), ('fast', 1), ('slow', 0)):
      vectors = BOOKS[name][level]
      apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
      made = rows(started, name, level)
      distances = np.linalg.norm(made[:, None] - made[None], axis=-1)
      before = rows(plain, name, level)
      by_chance = np.linalg.norm(before[:, None] - before[None], axis=-1)
      places = np.triu_indices(len(vectors), 1)
      assert np.corrcoef(apart[places], distances[places])[0, 1] > 0.6
      assert abs(np.corrcoef(apart[places], by_chance[places])[0, 1]) < 0.5
      # No two codes become one, and the scale stays.
      assert distances[places].min() > 0.2 * by_chance[places].min()
      np.testing.assert_allclose(made.std(), before.std(), rtol=0.25)


def test_rows_of_other_streams_and_special_ids_stay_as_they_are():
  for plain, started in zip(tables(), tables(codebooks=BOOKS), strict=True):
    kept = np.ones(len(plain), bool)
    for (name, _), first in LAYOUT.first_ids.items():
      if name in BOOKS:
        size = LAYOUT.spec.streams[name].codebook_size
        kept[first : first + size] = False
    assert 0 < kept.sum() < len(plain)
    np.testing.assert_array_equal(plain[kept], started[kept])
    assert (plain[~kept] != started[~kept]).all()


@pytest.mark.parametrize(
  'fast, message',
  [
    (FAST[:, :10], r'are \[4, 10, 2\]; its stream has 4 of 11 codes'),
    (np.concatenate([FAST[:3], 0 * FAST[:1]]), 'one vector for all codes'),
    (np.where(FAST > 0, np.nan, FAST), 'or not finite'),
  ],
)
def test_codebooks_of_other_codes_are_refused(fast, message):
  with pytest.raises(ValueError, match=message):
    codebooks.start_tables(
      {}, layout=LAYOUT, codebooks={'fast': fast}, key=jax.random.key(0)
    )


def test_an_objective_with_codebooks_can_be_hashed_and_compared():
  objective = StageObjective(model=CONFIG, codebooks=BOOKS)
  same = dataclasses.replace(objective)
  assert (objective, hash(objective)) == (same, hash(same))
  assert objective != StageObjective(model=CONFIG)
