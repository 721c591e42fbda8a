# SPDX-License-Identifier: Apache-2.0
"""Stages without weights, whose every code is known."""

import numpy as np

from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.stages import lm
from tests.inference import toys

TRANSFORMER = TransformerConfig(
  num_layers=1, num_heads=1, embed_dim=2, mlp_dim=3
)
SPECS = toys.specs(
  mulan=toys.MULAN, semantic=toys.SEMANTIC, acoustic=toys.CODEC.stream
)


class Silent(StageDecoder):
  """Makes code 1 wherever there is room, and keeps the rows it was given."""

  def decode(self, tokens, *, num_frames, **options):
    self.params.append((tokens, num_frames, options))
    layout = self.config.layout
    stop = layout.output.start
    num_frames = num_frames or layout.output.num_frames
    stop += num_frames * layout.output.take.count
    made = tokens.copy()
    output = slice(layout.output.start, stop)
    room = made[:, output] == layout.pad_id
    ones = np.broadcast_to(layout.legal_start[output] + 1, room.shape)
    made[:, output] = np.where(room, ones, made[:, output])
    return made


def stages(specs):
  """Of no weights."""
  return {
    spec.name: Silent(
      config=lm.StageLMConfig(spec=spec, transformer=TRANSFORMER), params=[]
    )
    for spec in specs
  }
