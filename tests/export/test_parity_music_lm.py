# SPDX-License-Identifier: Apache-2.0
"""A whole model beside its export: real rows and music."""

from unittest import mock

import numpy as np
import pytest
import torch

from musiclm_jax.export import clips, folder, parity, parity_music_lm
from musiclm_jax.export.pytorch.music_lm import MusicLM as TorchMusicLM
from musiclm_jax.inference import music_lm
from tests.export import whole


@pytest.mark.slow
@pytest.mark.parametrize(
  'is_conditioned', [True, False], ids=['MusicLM', 'AudioLM']
)
def test_rows_of_clips_and_music_are_compared_and_the_same(
  tmp_path, is_conditioned
):
  whole.publish(tmp_path / 'model', is_conditioned=is_conditioned)
  whole.export(tmp_path / 'model', tmp_path / 'out')
  made = parity.Sheet(clips='none', fingerprints={})
  model = folder.read(tmp_path / 'model')
  parity_music_lm.compare(
    made,
    bundles=model.bundles,
    sampling=model.sampling,
    directory=tmp_path / 'out',
    clips=clips.synthetic(),
  )
  made.require_passed()
  checks = {(check.component, check.name): check for check in made.checks}
  for stage in ('semantic', 'coarse', 'fine'):
    logits = checks[f'stages/{stage}', 'logits of real rows']
    assert logits.max_abs_error < 1e-3 < logits.shape[-1]
  music = checks['music_lm', 'acoustic codes of music']
  num_pieces = 4 if is_conditioned else 2
  assert music.shape == (num_pieces, 10, 5) and music.equal_share == 1
  (waveform,) = (
    check for (_, name), check in checks.items() if 'waveform' in name
  )
  assert waveform.shape == (num_pieces, 60) and np.isfinite(
    waveform.max_abs_error
  )


def test_music_of_other_codes_fails_in_the_sheet_and_hides_no_layer():
  codes = np.zeros((2, 5, 3), int)
  ours = mock.Mock(spec=music_lm.MusicLM, conditioner=None)
  ours.compose.return_value = mock.Mock(
    semantic=codes, acoustic=codes, waveform=np.zeros((2, 7))
  )
  theirs = mock.Mock(spec=TorchMusicLM)
  others = torch.from_numpy(codes + 1)
  theirs.compose.return_value = mock.Mock(semantic=others, acoustic=others)
  made = parity.Sheet(clips='none', fingerprints={})
  ones = np.ones(3)
  made.values('codec', 'layer', wanted=ones, got=0 * ones, absolute=0.5)
  parity_music_lm._compare_music(made, ours, theirs)
  with pytest.raises(
    ValueError, match='codec layer: .*; music_lm pieces of equal codes: 0.00%'
  ):
    made.require_passed()
