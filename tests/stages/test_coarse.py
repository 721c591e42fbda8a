# SPDX-License-Identifier: Apache-2.0
from musiclm_jax.stages.coarse import coarse
from musiclm_jax.stages.layout import StageLayout
from musiclm_jax.streams import TokenStream

MULAN = TokenStream(
  name='mulan', rate_hz=None, num_codebooks=12, codebook_size=1024
)
SEMANTIC = TokenStream(
  name='semantic', rate_hz=25, num_codebooks=1, codebook_size=1024
)
ACOUSTIC = TokenStream(
  name='acoustic', rate_hz=50, num_codebooks=12, codebook_size=1024
)


def test_coarse_window_has_the_lengths_of_the_paper():
  spec = coarse(conditions=(MULAN,), semantic=SEMANTIC, acoustic=ACOUSTIC)
  assert spec.num_codes == 12 + 10 * 25 + 10 * 50 * 4 == 2262


def test_coarse_row_is_mulan_then_semantic_then_the_first_four_levels():
  layout = StageLayout(
    coarse(conditions=(MULAN,), semantic=SEMANTIC, acoustic=ACOUSTIC)
  )
  assert layout.vocabulary_size == (12 + 1 + 4) * 1024
  assert [segment.take.stream.name for segment in layout.segments] == [
    'mulan',
    'semantic',
    'acoustic',
  ]
  assert [segment.start for segment in layout.segments] == [2, 15, 266]
  assert layout.length == 1 + 3 + 2262
  assert list(layout.output.take.levels) == [0, 1, 2, 3]


def test_coarse_stage_of_audiolm_sees_semantic_codes_only():
  spec = coarse(conditions=(), semantic=SEMANTIC, acoustic=ACOUSTIC)
  assert spec.num_codes == 2250
