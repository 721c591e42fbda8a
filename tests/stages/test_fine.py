# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.stages.fine import fine
from musiclm_jax.stages.layout import StageLayout
from musiclm_jax.streams import TokenStream

MULAN = TokenStream(
  name='mulan', rate_hz=None, num_codebooks=12, codebook_size=1024
)
ACOUSTIC = TokenStream(
  name='acoustic', rate_hz=50, num_codebooks=12, codebook_size=1024
)


def test_fine_window_has_the_lengths_of_the_paper():
  spec = fine(acoustic=ACOUSTIC)
  assert spec.num_codes == 3 * 50 * 4 + 3 * 50 * 8 == 1800


def test_fine_row_is_padded_to_an_even_length():
  layout = StageLayout(fine(acoustic=ACOUSTIC))
  assert layout.vocabulary_size == 12 * 1024
  assert layout.output.stop == 1 + 2 + 1800
  assert layout.length == 1804


def test_fine_stage_may_see_mulan():
  spec = fine(acoustic=ACOUSTIC, conditions=(MULAN,))
  assert spec.num_codes == 12 + 1800


def test_fine_stage_that_has_no_level_left_is_an_error():
  with pytest.raises(ValueError, match='levels from level 12'):
    fine(acoustic=ACOUSTIC, num_coarse_levels=12)
