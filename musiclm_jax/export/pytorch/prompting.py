# SPDX-License-Identifier: Apache-2.0
"""What is asked for, checked before anything is computed.

Prompts may change over time: MusicLM (Agostinelli et al., 2023), section 5
("story mode").
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from collections.abc import Sequence
from typing import Any

import torch

from .cascade import NAMES
from .sampling import Settings

NUM_SEEDS = 2**32

Seconds = float | int | str | fractions.Fraction


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What one piece is asked to sound like.

  Attributes:
    starts: From which second on each text holds; rising, the first 0.
    texts: One for each start.
  """

  starts: tuple[fractions.Fraction, ...]
  texts: tuple[str, ...]


def parse_prompts(
  prompts: Any, *, seconds: fractions.Fraction
) -> tuple[Prompt, ...]:
  """One prompt for each piece that is asked for.

  Args:
    prompts: A text; `[(seconds, text), …]`, which is one piece; or several
      pieces, each of them either.
    seconds: Length of the pieces.

  Raises:
    ValueError: It is none of these, or there is no prompt in it.
  """
  if isinstance(prompts, str) or _is_pairs(prompts):
    prompts = [prompts]
  if not isinstance(prompts, Sequence) or not prompts:
    raise ValueError(
      f'{prompts!r} holds no prompt; give a text or several, such as'
      " ['slow piano waltz']."
    )
  return tuple(_prompt(prompt, seconds=seconds) for prompt in prompts)


def parse_seconds(value: Seconds) -> fractions.Fraction:
  """A length that is above 0, kept exact."""
  seconds = _fraction(value)
  if seconds <= 0:
    raise ValueError(f'{value} s are asked for; ask for more than 0.')
  return seconds


def parse_seeds(
  seed: Any,
  *,
  num_prompts: int,
  num_samples: int,
  generator: torch.Generator | None,
) -> torch.Tensor:
  """One for each row: sample j of a prompt draws from its seed + j.

  Args:
    seed: A whole number for all prompts, or one for each.
    num_prompts: How many there are.
    num_samples: Pieces for each prompt.
    generator: Draws a seed for each prompt instead.
  """
  if num_samples < 1:
    raise ValueError(f'num_samples is {num_samples}; at least 1.')
  if generator is not None:
    seed = torch.randint(
      NUM_SEEDS - num_samples + 1,
      (num_prompts,),
      generator=generator,
      device=generator.device,
    ).cpu()
  given = torch.atleast_1d(torch.as_tensor(seed))
  if given.ndim != 1 or given.is_floating_point() or given.dtype == torch.bool:
    raise ValueError(f'A seed is a whole number, not {seed!r}.')
  if given.numel() not in (1, num_prompts):
    raise ValueError(
      f'{given.numel()} seeds for {num_prompts} prompts; give one for all or'
      ' one for each.'
    )
  seeds = given.long().expand(num_prompts)[:, None] + torch.arange(num_samples)
  if seeds.min() < 0 or seeds.max() >= NUM_SEEDS:
    raise ValueError(
      f'Seeds {seeds.min()} to {seeds.max()} are not within [0, 2**32).'
    )
  return seeds.flatten()


def parse_settings(
  own: Settings,
  *,
  temperature: Any,
  top_k: Any,
  top_p: Any,
  guidance: float | None,
) -> Settings:
  """How the stages draw: one number for all, or three; None as the model's."""
  samplers = {}
  given = {'temperature': temperature, 'top_k': top_k, 'top_p': top_p}
  per_stage = {name: _three(name, value) for name, value in given.items()}
  for index, stage in enumerate(NAMES):
    fields = {
      name: values[index]
      for name, values in per_stage.items()
      if values[index] is not None
    }
    try:
      samplers[stage] = dataclasses.replace(getattr(own, stage), **fields)
    except ValueError as error:
      raise ValueError(f'Stage {stage!r}: {error}') from error
  if guidance is not None and not math.isfinite(guidance):
    raise ValueError(f'guidance is {guidance}; a finite number, or None.')
  if guidance is None:
    guidance = own.guidance
  return Settings(**samplers, guidance=guidance)


def require_one_prompt(
  prompts: Any,
  prompt_audio: torch.Tensor | None,
  continue_from: torch.Tensor | None,
  sample_rate_hz: int | None,
) -> None:
  """Raises if two say what to make, or audio has no rate."""
  if prompts is not None and prompt_audio is not None:
    raise ValueError(
      'Both `prompts` and `prompt_audio` are given; one of them says what to'
      ' make.'
    )
  audio = {'prompt_audio': prompt_audio, 'continue_from': continue_from}
  given = [name for name, waveform in audio.items() if waveform is not None]
  if given and sample_rate_hz is None:
    raise ValueError(f'`{given[0]}` needs its `sample_rate_hz`.')


def require_no_prompt(
  prompts: Any, prompt_audio: torch.Tensor | None, guidance: float | None
) -> None:
  """Raises if a model without MuLan is given one."""
  if prompts is not None or prompt_audio is not None:
    raise ValueError(
      'The model has no MuLan, as an AudioLM, so it takes no prompt; leave it'
      ' out, or give `continue_from`.'
    )
  if guidance is not None:
    raise ValueError(
      'Guidance goes away from what the stages make without their prompt, and'
      ' the model has none; leave it out.'
    )


def _prompt(prompt: Any, *, seconds: fractions.Fraction) -> Prompt:
  if not isinstance(prompt, str) and not _is_pairs(prompt):
    raise ValueError(
      f'{prompt!r} is not a prompt; write a text, or (seconds, text) for each'
      ' text of one piece.'
    )
  pairs = [(0, prompt)] if isinstance(prompt, str) else prompt
  starts = tuple(_fraction(start) for start, _ in pairs)
  for text in (text for _, text in pairs):
    if not isinstance(text, str) or not text.strip():
      raise ValueError(
        f'{text!r} is not a prompt; describe the music in a few words.'
      )
  if starts[0] != 0 or any(b <= a for a, b in zip(starts, starts[1:])):
    raise ValueError(
      f'Texts start at {[float(start) for start in starts]} s; the first'
      ' starts at 0, and the others in order of time.'
    )
  if starts[-1] >= seconds:
    raise ValueError(
      f'{pairs[-1][1]!r} starts at {float(starts[-1]):g} s, after the'
      f' {float(seconds):g} s that are asked for; ask for more.'
    )
  return Prompt(starts=starts, texts=tuple(text for _, text in pairs))


def _is_pairs(prompts: Any) -> bool:
  return (
    isinstance(prompts, Sequence)
    and not isinstance(prompts, str)
    and bool(prompts)
    and all(
      isinstance(item, (tuple, list))
      and len(item) == 2
      and not isinstance(item[0], (str, tuple, list))
      for item in prompts
    )
  )


def _three(name: str, value: Any) -> tuple[Any, ...]:
  """A value for each stage."""
  if value is None or isinstance(value, (int, float)):
    return (value,) * len(NAMES)
  if not isinstance(value, Sequence) or len(value) != len(NAMES):
    raise ValueError(
      f'{name} is {value!r}; give one number for all stages or'
      f' {len(NAMES)} for {", ".join(NAMES)}.'
    )
  return tuple(value)


def _fraction(value: Seconds) -> fractions.Fraction:
  # Fraction(0.04) is not 1/25, and Fraction('0.04') is.
  try:
    return fractions.Fraction(str(value))
  except (ValueError, ZeroDivisionError) as error:
    raise ValueError(f'{value!r} is not a number of seconds.') from error
