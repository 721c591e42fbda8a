# SPDX-License-Identifier: Apache-2.0
from musiclm_jax.stages.layout import StageLayout
from musiclm_jax.stages.semantic import semantic
from musiclm_jax.streams import TokenStream

MULAN = TokenStream(
  name='mulan', rate_hz=None, num_codebooks=12, codebook_size=1024
)
SEMANTIC = TokenStream(
  name='semantic', rate_hz=25, num_codebooks=1, codebook_size=1024
)


def test_semantic_window_has_the_lengths_of_the_paper():
  spec = semantic(conditions=(MULAN,), semantic=SEMANTIC)
  assert spec.num_codes == 12 + 30 * 25 == 762


def test_semantic_vocabulary_is_the_papers_and_special_ids_come_on_top():
  layout = StageLayout(semantic(conditions=(MULAN,), semantic=SEMANTIC))
  assert layout.vocabulary_size == 12 * 1024 + 1024 == 13312
  assert layout.num_special_ids == 3 + 2
  assert layout.num_ids == 13317


def test_semantic_stage_of_audiolm_has_no_condition():
  spec = semantic(conditions=(), semantic=SEMANTIC)
  assert spec.inputs == ()
  assert spec.num_codes == 750
