# SPDX-License-Identifier: Apache-2.0
"""TEXT → MUSIC: an exported folder as one model.

MusicLM (Agostinelli et al., 2023), section 3.3: MuLan's codes of a text take
the place that its codes of audio had in training; three stages make acoustic
codes, and the codec a waveform. The same seed gives the same codes as
musiclm_jax, but where two are nearer than the rounding of float32.

Shapes: batch = pieces, samples = time.
"""

from __future__ import annotations

import collections
import dataclasses
import fractions
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import configuration, prompting
from .cascade import NAMES, Cascade
from .codec import Codec
from .composition import Composition, Section
from .mulan import MuLan
from .resample import resample
from .sampling import Settings
from .semantic import SemanticTokenizer
from .stage import StageLM


@dataclasses.dataclass(frozen=True, kw_only=True)
class Music:
  """What was made.

  Attributes:
    waveform: float32 [batch, samples]; a few samples may lie beyond ±1.
    semantic: Codes, [batch, frames, 1].
    acoustic: Codes, [batch, frames, levels].
    seeds: One a piece.
  """

  waveform: Tensor
  semantic: Tensor
  acoustic: Tensor
  seeds: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Request:
  """What is asked for.

  Attributes:
    seconds: Length of the pieces.
    seeds: One a row, [batch].
    settings: How the stages draw.
    sections: By the tick from which on it holds, the embedding of each row's
      prompt, [embed]; in order, the first at 0.
    given: Codes of what is continued, by the name of the argument.
    max_rows: Windows that are decoded at a time.
  """

  seconds: fractions.Fraction
  seeds: Tensor
  settings: Settings
  sections: Sequence[Mapping[int, Tensor]]
  given: Mapping[str, Tensor]
  max_rows: int


class MusicLM(nn.Module):
  """A whole MusicLM; make one with `from_pretrained`.

  Attributes:
    codec: Acoustic codes to audio.
    mulan: Prompts to codes; None of an AudioLM, which takes none.
    stages: The cascade, by name.
    semantic: Audio to semantic codes, which only continuation needs; None of a
      model that goes on from none.
    settings: How the stages draw where nobody says otherwise.
  """

  def __init__(
    self,
    *,
    codec: Codec,
    mulan: MuLan | None,
    semantic: SemanticTokenizer | None,
    stages: Mapping[str, StageLM],
    settings: Settings = Settings(),  # noqa: B008
  ):
    super().__init__()
    self.codec = codec
    self.mulan = mulan
    self.semantic = semantic
    self.stages = Cascade(dict(stages))
    self.settings = settings

  @classmethod
  def from_pretrained(
    cls,
    folder: configuration.Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
  ) -> MusicLM:
    """The model that `musiclm export` wrote to `folder`.

    Args:
      folder: Holds `codec` and `stages`, and mostly `mulan` and `semantic`.
      device: Where all of it goes; the CPU if left out.
      dtype: Of the stages; float32 if left out, as the others are.
    """
    folder = pathlib.Path(folder)
    config = configuration.read_config(folder, kind='music_lm')
    found = {
      name: kind.from_pretrained(folder / name, device=device)
      for name, kind in (('mulan', MuLan), ('semantic', SemanticTokenizer))
      if hasattr(config.components, name)
    }
    return cls(
      codec=Codec.from_pretrained(folder / 'codec', device=device),
      mulan=found.get('mulan'),
      semantic=found.get('semantic'),
      stages={
        name: StageLM.from_pretrained(
          folder / 'stages' / name, device=device, dtype=dtype
        )
        for name in NAMES
      },
      settings=Settings.of_config(config),
    )

  @property
  def sample_rate_hz(self) -> int:
    """Of what is made."""
    return self.codec.sample_rate_hz

  @property
  def device(self) -> torch.device:
    return self.codec.device

  def generate(
    self, prompts: Any = None, *, stream: bool = False, **options: Any
  ) -> Tensor | Iterator[Tensor]:
    """Makes music.

    Args:
      prompts: A text, several, or `[(seconds, text), …]` for one piece whose
        prompt changes; see `compose`, which has the words for the `options`.
      stream: Gives an iterator of [batch, some samples] instead, as windows are
        complete; joined they are the whole.
      **options: Those of `compose`.

    Returns:
      float32 [batch, samples] at `sample_rate_hz`, all samples of the first
      prompt first.
    """
    if stream:
      return self._stream(self._request(prompts, **options))
    return self.compose(prompts, **options).waveform

  @torch.no_grad()
  def compose(self, prompts: Any = None, **options: Any) -> Music:
    """Makes music, and gives the codes too.

    Args:
      prompts: As for `generate`; None where audio takes their place, or
        nothing does (AudioLM).
      **options:
        seconds: Length of the result, what is continued included; 10.
        seed: A whole number for all prompts, or one for each; 0. Sample j of a
          prompt draws from its seed + j; a piece depends on its own seed and
          on no other.
        generator: A `torch.Generator` that draws the seeds instead.
        num_samples: Pieces for each prompt; 1.
        guidance: Scale of classifier-free guidance; 1 for none. This and the
          next three are as in `settings` if left out.
        temperature: One for all stages or three; 0 takes the likeliest code.
        top_k: How many of the likeliest codes may be drawn; one or three.
        top_p: The share of probability that may be drawn; one or three.
        prompt_audio: What the result should sound like: [samples], or [batch,
          samples] for as many pieces.
        continue_from: A waveform that the result begins with, [samples].
          Alone, it is the prompt too.
        sample_rate_hz: Of both waveforms.
        max_rows: Windows that are decoded at a time, twice as many under
          guidance; 16.
    """
    request = self._request(prompts, **options)
    made: dict[int, tuple[Tensor, Tensor]] = {}
    for rows, composition in self._compositions(request):
      acoustic = torch.cat(list(composition.pieces()), dim=1)
      for place, row in enumerate(rows):
        made[row] = composition.semantic[place], acoustic[place]
    semantic, acoustic = (
      torch.stack([made[row][kind] for row in range(len(made))])
      for kind in (0, 1)
    )
    num_frames = self.stages.frames(
      self.stages.semantic_stream, ticks=self.stages.ticks(request.seconds)
    )
    waveform = self.codec.decode(acoustic).float()
    return Music(
      waveform=waveform[:, : self._num_samples(request)],
      semantic=semantic[:, :num_frames],
      acoustic=acoustic,
      seeds=request.seeds,
    )

  def _stream(self, request: _Request) -> Iterator[Tensor]:
    """Whatever is wrong with the request is raised at once."""
    compositions = list(self._compositions(request, as_it_grows=True))
    if len(compositions) > 1:
      raise ValueError(
        'The prompts change at different times, and only pieces that change'
        ' together can be streamed together; ask for one after the other.'
      )
    ((_, composition),) = compositions

    def parts() -> Iterator[Tensor]:
      left = self._num_samples(request)
      pieces = composition.pieces()
      for part in self.codec.decode_pieces(pieces):
        part = part.float()[:, :left]
        left -= part.shape[1]
        if part.shape[1]:
          yield part

    return _without_gradients(parts())

  @torch.no_grad()
  def _request(
    self,
    prompts: Any,
    *,
    seconds: prompting.Seconds = 10,
    seed: Any = 0,
    generator: torch.Generator | None = None,
    num_samples: int = 1,
    guidance: float | None = None,
    temperature: Any = None,
    top_k: Any = None,
    top_p: Any = None,
    prompt_audio: Tensor | None = None,
    continue_from: Tensor | None = None,
    sample_rate_hz: int | None = None,
    max_rows: int = 16,
  ) -> _Request:
    """Checks what is asked for, and embeds the prompts."""
    seconds = prompting.parse_seconds(seconds)
    settings = prompting.parse_settings(
      self.settings,
      temperature=temperature,
      top_k=top_k,
      top_p=top_p,
      guidance=guidance,
    )
    if max_rows < 1:
      raise ValueError(f'max_rows is {max_rows}; at least 1.')
    prompting.require_one_prompt(
      prompts, prompt_audio, continue_from, sample_rate_hz
    )
    heard = continue_from if prompt_audio is None else prompt_audio
    if self.mulan is None:
      prompting.require_no_prompt(prompts, prompt_audio, guidance)
      sections = [{0: torch.zeros(0, device=self.device)}]
    elif prompts is None and heard is not None:
      embedded = self.mulan.embed_audio(torch.atleast_2d(heard), sample_rate_hz)
      sections = [{0: embedding} for embedding in embedded]
    else:
      parsed = prompting.parse_prompts(prompts, seconds=seconds)
      sections = self._embedded(parsed, seconds=seconds)
    seeds = prompting.parse_seeds(
      seed,
      num_prompts=len(sections),
      num_samples=num_samples,
      generator=generator,
    )
    given = {}
    if continue_from is not None:
      given = self._given(continue_from, sample_rate_hz, seconds=seconds)
    return _Request(
      seconds=seconds,
      seeds=seeds.to(self.device),
      settings=settings,
      sections=[found for found in sections for _ in range(num_samples)],
      given=given,
      max_rows=max_rows,
    )

  def _embedded(
    self, prompts: Sequence[prompting.Prompt], *, seconds: fractions.Fraction
  ) -> list[dict[int, Tensor]]:
    """Each prompt's embeddings by the tick from which on they hold."""
    texts = [text for prompt in prompts for text in prompt.texts]
    embeddings = iter(self.mulan.embed_text(texts))
    end = self.stages.ticks(seconds)
    found = []
    for prompt in prompts:
      # Of two that begin within one tick, the later.
      sections = {
        self.stages.ticks(start): next(embeddings) for start in prompt.starts
      }
      found.append({tick: e for tick, e in sections.items() if tick < end})
    return found

  def _compositions(
    self, request: _Request, *, as_it_grows: bool = False
  ) -> Iterator[tuple[list[int], Composition]]:
    """Rows that change together, and what makes them."""
    groups = collections.defaultdict(list)
    for row, sections in enumerate(request.sections):
      groups[tuple(sections)].append(row)
    for starts, rows in groups.items():
      sections = []
      for start in starts:
        conditions = {}
        if self.mulan is not None:
          embeddings = [request.sections[row][start] for row in rows]
          codes = self.mulan.quantize(torch.stack(embeddings))
          conditions[self.mulan.stream.name] = codes
        sections.append(Section(start=start, conditions=conditions))
      yield (
        rows,
        Composition(
          self.stages,
          settings=request.settings,
          ticks=self.stages.ticks(request.seconds),
          seeds=request.seeds[rows],
          sections=sections,
          max_rows=request.max_rows,
          as_it_grows=as_it_grows,
          **request.given,
        ),
      )

  def _given(
    self,
    waveform: Tensor,
    sample_rate_hz: int,
    *,
    seconds: fractions.Fraction,
  ) -> dict[str, Tensor]:
    """Both streams' codes of what is continued, as many whole ticks of each."""
    if self.semantic is None:
      raise ValueError(
        'The model has no semantic tokenizer, so it makes music from its'
        ' prompts and cannot go on from audio; leave out continue_from.'
      )
    if waveform.ndim != 1:
      raise ValueError(
        f'`continue_from` is one clip, [samples], not {list(waveform.shape)}.'
      )
    begun = resample(
      waveform[None].to(self.device),
      from_hz=sample_rate_hz,
      to_hz=self.sample_rate_hz,
    )
    codes = {
      'semantic': self.semantic.encode(begun, self.sample_rate_hz)[..., None],
      'acoustic': self.codec.encode(begun),
    }
    stages = self.stages
    per_tick = {
      'semantic': stages.frames(stages.semantic_stream, ticks=1),
      'acoustic': stages.frames(stages.acoustic_stream, ticks=1),
    }
    # A frame that is not full is not continued but made anew.
    length = fractions.Fraction(begun.shape[1], self.sample_rate_hz)
    known = min(
      length // stages.tick_seconds,
      *(codes[kind].shape[1] // per_tick[kind] for kind in codes),
    )
    if not 0 < known < stages.ticks(seconds):
      raise ValueError(
        f'{float(known * stages.tick_seconds):g} s are to be continued, and the'
        f' result is to have {float(seconds):g} s, those included; ask for'
        ' more, and give at least one frame.'
      )
    return {kind: c[:, : known * per_tick[kind]] for kind, c in codes.items()}

  def _num_samples(self, request: _Request) -> int:
    """Of the result; the last may be begun only."""
    return math.ceil(request.seconds * self.sample_rate_hz)


def _without_gradients(parts: Iterator[Tensor]) -> Iterator[Tensor]:
  """The parts; the caller's own work between them keeps its gradients."""
  while True:
    with torch.no_grad():
      part = next(parts, None)
    if part is None:
      return
    yield part
