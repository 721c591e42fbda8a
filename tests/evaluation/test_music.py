# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from musiclm_jax.evaluation import clips, frechet, music
from musiclm_jax.evaluation.prompts import Prompt
from tests.evaluation import toy_ear

EAR = toy_ear.ToyEar()


def _heard(waveforms: dict[str, np.ndarray], *, rate_hz=8_000) -> music.Heard:
  return music.hear(
    [
      clips.Clip(name=name, waveform=waveform, sample_rate_hz=rate_hz)
      for name, waveform in waveforms.items()
    ],
    source='here',
    embedders=[EAR],
  )


def _tones(amplitude: float = 0.5) -> dict[str, np.ndarray]:
  return {
    f'{hertz}.wav': toy_ear.tone(hertz, amplitude=amplitude)
    for hertz in (311, 440, 622, 880, 1_245)
  }


def test_a_set_beside_itself_has_no_distance():
  heard = _heard(_tones())
  found = music.evaluate(heard, heard, embedders=[EAR])
  assert found.num_pairs == 5
  assert found.frechet['toy'].distance.mean == pytest.approx(0, abs=1e-9)
  assert found.kld['toy'].paired.mean == pytest.approx(0)
  assert found.consistency == {}


def test_a_louder_set_is_apart_in_what_is_heard_and_measured():
  reference = _heard(_tones())
  found = music.evaluate(_heard(_tones(0.9)), reference, embedders=[EAR])
  # Loudness is all that differs: the shift of its mean, squared.
  shift = (0.9 - 0.5) / np.sqrt(2)
  assert found.frechet['toy'].distance.mean == pytest.approx(shift**2, rel=0.05)
  assert next(iter(found.kld['toy'].most_apart)) == 'loud'
  levels = [
    music.level_estimates(side)['rms_db'].mean
    for side in (found.generated, found.reference)
  ]
  assert levels[0] - levels[1] == pytest.approx(20 * np.log10(0.9 / 0.5))


def test_other_rates_are_resampled_to_the_ears_and_counted():
  slow = _heard({'a.wav': toy_ear.tone(440)})
  fast = _heard({'a.wav': toy_ear.tone(440, rate_hz=44_100)}, rate_hz=44_100)
  np.testing.assert_allclose(
    fast.embeddings['toy'][0], slow.embeddings['toy'][0], atol=2e-3
  )
  assert fast.counts('sample_rate_hz') == {44_100: 1}
  assert fast.clips[0].seconds == 1.5


def test_what_makes_figures_weak_is_said():
  bad = clips.BadClip(name='b.wav', reason='broken')
  short = clips.Clip(
    name='a.wav', waveform=np.zeros(1_000, np.float32), sample_rate_hz=8_000
  )
  generated = music.hear([bad, short], source='here', embedders=[EAR])
  found = music.evaluate(generated, _heard(_tones()), embedders=[EAR])
  told = '\n'.join(found.warnings)
  assert '1 of 2 generated files could not be read' in told
  assert '100% of the generated music is silent' in told
  assert '1 generated clips are shorter than the 0.5 s that toy' in told
  assert 'FAD-toy: 1 samples of the set are few for 2' in told
  assert 'flatness' not in music.level_estimates(generated)
  assert 'MCC is left out: nothing says what the music was asked' in told
  # Nothing of it holds for plenty of sound and two prompts.
  plenty = _heard(
    {
      f'{n}.wav': toy_ear.tone(200 * n, amplitude=(n % 3 + 1) / 5)
      for n in range(1, 6)
    }
  )
  asked = [
    Prompt(text='a loud tone', file='1.wav'),
    Prompt(text='a high tone', file='2.wav'),
  ]
  found = music.evaluate(plenty, plenty, embedders=[EAR], prompts=asked)
  assert found.warnings == ()


def test_prompts_find_their_files_in_any_order_and_number():
  heard = _heard(
    {
      'high.wav': toy_ear.tone(3_900, amplitude=0.05),
      'other.wav': toy_ear.tone(440),
      'loud.wav': toy_ear.tone(50, amplitude=0.99),
    }
  )
  prompts = [
    Prompt(text='a loud tone', file='loud.wav'),
    Prompt(text='a high tone', file='high.wav'),
  ]
  found = music.evaluate(heard, heard, embedders=[EAR], prompts=prompts)
  assert found.consistency['toy'].matched.mean > 0.95
  assert found.consistency['toy'].best_of_all.mean == 1
  with pytest.raises(ValueError, match='No prompt tells of a file of here'):
    music.evaluate(
      heard,
      heard,
      embedders=[EAR],
      prompts=[Prompt(text='a loud tone', file='absent.wav')],
    )


def test_a_prompt_pairs_its_music_with_the_clip_that_it_describes():
  reference = _heard(_tones())
  generated = _heard(
    {'1.wav': toy_ear.tone(440, amplitude=0.9), '880.wav': toy_ear.tone(880)}
  )
  asked = [Prompt(text='a loud tone', file='1.wav', reference='440')]
  alone = music.evaluate(generated, reference, embedders=[EAR])
  found = music.evaluate(generated, reference, embedders=[EAR], prompts=asked)
  assert (alone.num_pairs, found.num_pairs) == (1, 2)
  assert found.kld['toy'].paired.mean > alone.kld['toy'].paired.mean
  assert alone.kld['toy'].paired.mean == pytest.approx(0)
  assert 'no KLD of pairs' not in '\n'.join(found.warnings)


def test_prompts_whose_reference_is_not_there_are_counted():
  reference = _heard(_tones())
  generated = _heard({f'{n}.wav': toy_ear.tone(440) for n in range(3)})
  asked = [
    Prompt(text='a loud tone', file=f'{n}.wav', reference=name)
    for n, name in enumerate(('440', 'absent', 'gone'))
  ]
  asked.append(Prompt(text='a high tone', file='unmade.wav', reference='622'))
  found = music.evaluate(generated, reference, embedders=[EAR], prompts=asked)
  assert found.num_pairs == 1
  (told,) = (w for w in found.warnings if 'no KLD of pairs' in w)
  assert told.startswith('2 of 3 clips') and "such as 'absent'" in told


def test_plain_fad_takes_the_gaussian_of_the_reference_once(monkeypatch):
  generated, reference = _heard(_tones(0.9)), _heard(_tones())
  wanted = music.evaluate(generated, reference, embedders=[EAR])
  sizes, gaussian_of = [], frechet.gaussian_of

  def counted(clips):
    sizes.append(len(clips))
    return gaussian_of(clips)

  monkeypatch.setattr(frechet, 'gaussian_of', counted)
  few = _heard(dict(itertools.islice(_tones(0.9).items(), 2)))
  for side in (few, generated):
    found = music.evaluate(side, reference, embedders=[EAR], has_plain_fad=True)
  assert sorted(sizes) == [2, 5, 5]
  mean = found.frechet['toy'].distance.mean
  assert mean == wanted.frechet['toy'].distance.mean > 0
  assert found.kld == wanted.kld


def test_one_prompt_leaves_out_mcc_alone_and_says_so():
  heard = _heard(_tones())
  asked = [
    Prompt(text='a loud tone', file=name) for name in ('440.wav', '880.wav')
  ]
  found = music.evaluate(heard, heard, embedders=[EAR], prompts=asked)
  assert found.consistency == {}
  assert found.frechet['toy'].distance.mean == pytest.approx(0, abs=1e-9)
  assert any('MCC is left out' in told for told in found.warnings)


def test_a_set_of_which_nothing_can_be_read_is_an_error():
  bad = clips.BadClip(name='b.wav', reason='is broken; replace it.')
  with pytest.raises(ValueError, match='Not one of 1 files of here.*b.wav'):
    music.hear([bad], source='here', embedders=[EAR])
  with pytest.raises(ValueError, match='here has no clips'):
    music.hear([], source='here', embedders=[EAR])
