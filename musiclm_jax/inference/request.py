# SPDX-License-Identifier: Apache-2.0
"""What a user asks a MusicLM for, checked before anything is computed.

Fields that come from outside are `Any`, and checked in words.

Shapes: samples = time of a waveform.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from typing import Any

import numpy as np
from jaxtyping import UInt

from musiclm_jax.inference import schedule
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.streams import Exact

_NUM_SEEDS = 2**32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """Pieces to make; rows are samples of prompts, all of the first prompt first.

  Attributes:
    prompts: Texts, or texts over time, as `schedule.parse` reads them; None
      where audio takes their place, or nothing does (AudioLM).
    seconds: Length of the result, what is continued included.
    seed: A whole number for all prompts, or one for each. Sample j of a prompt draws from
      its seed + j; a piece depends on its own seed and on no other.
    num_samples: Pieces for each prompt.
    prompt_audio: What the result should sound like: [samples], or [batch,
      samples] for as many pieces.
    continue_from: A waveform that the result begins with, [samples]. Alone, it
      is the prompt too.
    sample_rate_hz: Of both waveforms.
    sampling: How the stages draw; None for as the model states.
  """

  prompts: Any = None
  seconds: Exact = 10
  seed: Any = 0
  num_samples: int = 1
  prompt_audio: Any = None
  continue_from: Any = None
  sample_rate_hz: int | None = None
  sampling: SamplingConfig | None = None

  def __post_init__(self):
    self._require_one_prompt()
    object.__setattr__(self, 'seconds', _seconds(self.seconds))
    if self.num_samples < 1:
      raise ValueError(f'num_samples is {self.num_samples}; at least 1.')
    if self.prompt_audio is not None:
      heard = np.atleast_2d(_audio(self.prompt_audio, 'prompt_audio', (1, 2)))
      object.__setattr__(self, 'prompt_audio', heard)
    if self.continue_from is not None:
      begun = _audio(self.continue_from, 'continue_from', (1,))
      object.__setattr__(self, 'continue_from', begun)
    if self.prompts is not None:
      object.__setattr__(self, 'prompts', schedule.parse(self.prompts))
      self._require_heard()
    self.seeds()

  @property
  def is_continuation(self) -> bool:
    return self.continue_from is not None

  @property
  def num_prompts(self) -> int:
    """Pieces that differ in more than their seed."""
    if self.prompts is not None:
      return len(self.prompts)
    return 1 if self.prompt_audio is None else len(self.prompt_audio)

  def seeds(self) -> UInt[np.ndarray, ' batch']:
    """One for each row, [batch]."""
    given = np.atleast_1d(np.asarray(self.seed))
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
      raise ValueError(f'A seed is a whole number, not {self.seed!r}.')
    if given.size == 1:
      given = np.repeat(given, self.num_prompts)
    if given.size != self.num_prompts:
      raise ValueError(
        f'{given.size} seeds for {self.num_prompts} prompts; give one for all'
        ' or one for each.'
      )
    seeds = given[:, None].astype(np.int64) + np.arange(self.num_samples)
    if seeds.min() < 0 or seeds.max() >= _NUM_SEEDS:
      raise ValueError(
        f'Seeds {seeds.min()} to {seeds.max()} are not within [0, 2**32).'
      )
    return seeds.reshape(-1).astype(np.uint32)

  def num_samples_of_audio(self, sample_rate_hz: int) -> int:
    """Samples of the result: the last may be begun only."""
    return math.ceil(self.seconds * sample_rate_hz)

  def _require_one_prompt(self) -> None:
    audio = {
      'prompt_audio': self.prompt_audio,
      'continue_from': self.continue_from,
    }
    given = [name for name, waveform in audio.items() if waveform is not None]
    if self.prompts is not None and self.prompt_audio is not None:
      raise ValueError(
        'Both `prompts` and `prompt_audio` are given; one of them says what to'
        ' make.'
      )
    if given and self.sample_rate_hz is None:
      raise ValueError(f'`{given[0]}` needs its `sample_rate_hz`.')

  def _require_heard(self) -> None:
    for prompt in self.prompts:
      last = prompt.starts_seconds[-1]
      if last >= self.seconds:
        raise ValueError(
          f'{prompt.texts[-1]!r} starts at {float(last):g} s, after the'
          f' {float(self.seconds):g} s that are asked for; ask for more.'
        )


def _seconds(value: Exact) -> fractions.Fraction:
  try:
    seconds = fractions.Fraction(str(value))
  except (ValueError, ZeroDivisionError) as error:
    raise ValueError(f'{value!r} is not a number of seconds.') from error
  if seconds <= 0:
    raise ValueError(f'{value} s are asked for; ask for more than 0.')
  return seconds


def _audio(waveform: Any, name: str, ndims: tuple[int, ...]) -> np.ndarray:
  """A waveform from outside, as float32."""
  waveform = np.asarray(waveform)
  if (
    waveform.ndim not in ndims
    or not waveform.size
    or not np.issubdtype(waveform.dtype, np.floating)
    or not np.isfinite(waveform).all()
  ):
    raise ValueError(
      f'`{name}` is finite floats in [-1, 1] of {" or ".join(map(str, ndims))}'
      f' axes, the last of them time; got {waveform.dtype}'
      f' {list(waveform.shape)}.'
    )
  return waveform.astype(np.float32)
