# SPDX-License-Identifier: Apache-2.0
"""TEXT → MUSIC: six bundles as one object, or five that take no text.

MusicLM (Agostinelli et al., 2023), section 3.3: MuLan's codes of a text take
the place that its codes of audio had in training; three stages make acoustic
codes, and the codec a waveform. Story mode is its section 5. Continuation
follows AudioLM (Borsos et al., 2022), section III-E: both streams of the
beginning are forced, and each stage goes on.

A piece depends on the weights, its prompt, seed and length alone.

Shapes: batch = pieces, samples = time, embed = the joint space of prompts.
"""

from __future__ import annotations

import collections
import dataclasses
import fractions
import functools
import itertools
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from musiclm_jax.array_types import Array, Codes
from musiclm_jax.audio import resample
from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec.base import Codec, StreamingCodec, load_codec
from musiclm_jax.conditioning.base import Conditioner, load_conditioner
from musiclm_jax.inference import assembly as assemblies
from musiclm_jax.inference import prompting, schedule
from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.composition import (
  Composition,
  Order,
  Progress,
  Section,
)
from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.inference.request import Request
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.semantic.base import SemanticTokenizer, load_semantic
from musiclm_jax.streams import Exact


@dataclasses.dataclass(frozen=True, kw_only=True)
class Music:
  """What was made.

  Attributes:
    waveform: float32 [batch, samples]; a few samples may lie beyond ±1.
    sample_rate_hz: Its rate.
    semantic: Codes, [batch, frames, 1]; of runs, where repeats are removed.
    acoustic: Codes, [batch, frames, levels].
    seeds: One a piece.
    prompts: In words, one a piece.
    sections: Of each piece, the embedding of its prompt, [embed], by the tick
      from which on it holds.
    seconds: Time spent in each part, compiling included.
  """

  waveform: np.ndarray
  sample_rate_hz: int
  semantic: Int[np.ndarray, 'batch _ 1']
  acoustic: Int[np.ndarray, 'batch _ levels']
  seeds: np.ndarray
  prompts: tuple[str, ...]
  sections: tuple[Mapping[int, np.ndarray], ...]
  seconds: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MusicLM:
  """A whole MusicLM; make one with `load`.

  Attributes:
    codec: Acoustic codes to audio.
    conditioner: Prompts to codes; None of an AudioLM, which takes none.
    cascade: The stages.
    semantic: Loads the semantic tokenizer, which only continuation needs; None
      of a model without one.
    fingerprints: Of the bundles, by their name in `music_lm.json`.
    sampling: How the stages draw where a request does not say.
  """

  codec: Codec
  conditioner: Conditioner | None
  cascade: Cascade
  semantic: Callable[[], SemanticTokenizer] | None
  fingerprints: Mapping[str, str]
  sampling: SamplingConfig = SamplingConfig()

  @classmethod
  def load(
    cls, directory: str | os.PathLike[str], *, dtype: str | None = None
  ) -> MusicLM:
    """The model whose `music_lm.json` is in `directory`.

    Args:
      directory: The folder, or 'demo' for the package's own model.
      dtype: Of the stages' weights and products; 'int8' for the kernels of
        their layers alone; as they were trained if left out.

    Raises:
      ValueError: A bundle is missing or damaged, or they do not fit together.
    """
    assembly = assemblies.read(directory)
    stages = {
      name: StageDecoder.of_bundle(
        bundle.load(folder, kind='stage'), dtype=dtype
      )
      for name, folder in assembly.stages.items()
    }
    return cls(
      codec=load_codec(assembly.codec),
      conditioner=assembly.mulan and load_conditioner(assembly.mulan),
      cascade=Cascade(**stages),
      semantic=assembly.semantic
      and functools.partial(load_semantic, assembly.semantic),
      fingerprints=assembly.fingerprints(),
      sampling=assembly.sampling,
    )

  @classmethod
  def assemble(
    cls,
    directory: str | os.PathLike[str],
    *,
    codec: str | os.PathLike[str],
    semantic: str | os.PathLike[str] | None = None,
    mulan: str | os.PathLike[str] | None = None,
    stages: Mapping[str, str | os.PathLike[str]],
    sampling: SamplingConfig = SamplingConfig(),  # noqa: B008
  ) -> MusicLM:
    """Writes `music_lm.json` over trained bundles, and loads it.

    Raises:
      ValueError: They do not fit together; nothing is written.
    """
    assemblies.write(
      directory,
      codec=codec,
      semantic=semantic,
      mulan=mulan,
      stages=stages,
      sampling=sampling,
    )
    return cls.load(pathlib.Path(directory))  # Not the demo, whatever its name.

  @property
  def sample_rate_hz(self) -> int:
    """Of what is made."""
    return self.codec.sample_rate_hz

  def generate(
    self,
    prompts: schedule.Prompts | None = None,
    *,
    seconds: Exact = 10,
    seed: int | Sequence[int] = 0,
    num_samples: int = 1,
    guidance: float | None = None,
    prompt_audio: Array | None = None,
    continue_from: Array | None = None,
    sample_rate_hz: int | None = None,
    sampling: SamplingConfig | None = None,
    stream: bool = False,
    progress: Progress | None = None,
  ) -> Float[np.ndarray, 'batch samples'] | Iterator[np.ndarray]:
    """Makes music.

    Args:
      prompts: A text, several, or `[(seconds, text), …]` for one piece whose
        prompt changes; see `Request`, which has the words for all that follows.
      seconds: Length of the result; whatever it is, memory is that of one
        window and of the waveform, and time grows with it.
      seed: One for all prompts or one for each.
      num_samples: Pieces for each prompt.
      guidance: Scale of classifier-free guidance, in place of `sampling`'s; 1
        for none.
      prompt_audio: In place of `prompts`.
      continue_from: What the result begins with.
      sample_rate_hz: Of both waveforms.
      sampling: How the stages draw, all of it in place of the model's own.
      stream: Gives an iterator of [batch, some samples] instead, as windows
        are complete; joined they are the whole.
      progress: Told the stage at work and the share of it that is done.

    Returns:
      float32 [batch, samples] at `sample_rate_hz`, all samples of the first
      prompt first.
    """
    if guidance is not None:
      sampling = dataclasses.replace(
        sampling or self.sampling, guidance_scale=guidance
      )
    request = Request(
      prompts=prompts,
      seconds=seconds,
      seed=seed,
      num_samples=num_samples,
      prompt_audio=prompt_audio,
      continue_from=continue_from,
      sample_rate_hz=sample_rate_hz,
      sampling=sampling,
    )
    if stream:
      return self.stream(request, progress=progress)
    return self.compose(request, progress=progress).waveform

  def compose(
    self, request: Request, *, progress: Progress | None = None
  ) -> Music:
    """Makes music, and says how."""
    started = time.perf_counter()
    pieces = self._pieces(request)
    cascade = self._drawing(request)
    seconds = collections.Counter(prompt=time.perf_counter() - started)
    made: dict[int, tuple[Codes, Codes]] = {}
    for rows, order in self._orders(request, pieces):
      composition = Composition(cascade, order, progress=progress)
      acoustic = np.concatenate([*composition.pieces()], axis=1)
      semantic = composition.semantic_piece
      made |= {row: (semantic[i], acoustic[i]) for i, row in enumerate(rows)}
      seconds.update(composition.seconds)
    semantic, acoustic = (
      np.stack([made[row][kind] for row in range(len(made))]) for kind in (0, 1)
    )
    started = time.perf_counter()
    waveform = np.asarray(self.codec.decode(acoustic), np.float32)
    seconds['codec'] = time.perf_counter() - started
    return self._music(
      request,
      pieces,
      waveform=waveform[:, : request.num_samples_of_audio(self.sample_rate_hz)],
      semantic=semantic,
      acoustic=acoustic,
      seconds=dict(seconds),
    )

  def play(
    self,
    request: Request,
    *,
    heard: Callable[[Float[np.ndarray, 'batch _']], None],
    progress: Progress | None = None,
  ) -> Music:
    """Makes music, gives it to `heard` as `stream` does, and says how.

    The time that `heard` takes is the codec's.
    """
    started = time.perf_counter()
    pieces = self._pieces(request)
    composition = self._growing(request, pieces, progress=progress)
    prompt = time.perf_counter() - started
    codes, grown = itertools.tee(composition.pieces())
    parts = []
    for part in self._sound(grown, request):
      heard(part)
      parts.append(part)
    seconds = {'prompt': prompt, **composition.seconds}
    codec = time.perf_counter() - started - sum(seconds.values())
    return self._music(
      request,
      pieces,
      waveform=np.concatenate(parts, axis=1),
      semantic=composition.semantic_piece,
      acoustic=np.concatenate([*codes], axis=1),
      seconds={**seconds, 'codec': codec},
    )

  def stream(
    self, request: Request, *, progress: Progress | None = None
  ) -> Iterator[Float[np.ndarray, 'batch _']]:
    """Makes music, and gives it away as it is made.

    Whatever is wrong with the request is raised at once.
    """
    composition = self._growing(
      request, self._pieces(request), progress=progress
    )
    return self._sound(composition.pieces(), request)

  def _pieces(self, request: Request) -> list[prompting.Piece]:
    return prompting.pieces(
      request, conditioner=self.conditioner, ticks_of=self.cascade.ticks
    )

  def _growing(
    self,
    request: Request,
    pieces: Sequence[prompting.Piece],
    *,
    progress: Progress | None,
  ) -> Composition:
    """What hands over codes as windows are complete."""
    if not isinstance(self.codec, StreamingCodec):
      raise ValueError(
        f'The codec, a {type(self.codec).__name__}, cannot decode piece by'
        ' piece; ask for the whole.'
      )
    orders = self._orders(request, pieces)
    if len(orders) > 1:
      raise ValueError(
        'The prompts change at different times, and only pieces that change'
        ' together can be streamed together; ask for one after the other.'
      )
    ((_, order),) = orders
    return Composition(
      self._drawing(request), order, as_it_grows=True, progress=progress
    )

  def _drawing(self, request: Request) -> Cascade:
    """The stages, set to draw as the request or else the model says."""
    return (request.sampling or self.sampling).apply(self.cascade)

  def _sound(
    self, codes: Iterator[Codes], request: Request
  ) -> Iterator[Float[np.ndarray, 'batch _']]:
    return _until(
      self.codec.decode_pieces(codes),
      num_samples=request.num_samples_of_audio(self.sample_rate_hz),
    )

  def _music(
    self, request: Request, pieces: Sequence[prompting.Piece], **made: Any
  ) -> Music:
    return Music(
      sample_rate_hz=self.sample_rate_hz,
      seeds=request.seeds(),
      prompts=tuple(piece.label for piece in pieces),
      sections=tuple(piece.sections for piece in pieces),
      **made,
    )

  def similarity(self, music: Music) -> Float[np.ndarray, ' batch']:
    """How well each piece matches its prompts, by the conditioner's own ears.

    The cosine of both embeddings, in [-1, 1]; of a piece with several sections
    the mean over time.

    Raises:
      ValueError: The model has no conditioner.
    """
    if self.conditioner is None:
      raise ValueError('A model without a conditioner cannot judge its music.')
    length = music.waveform.shape[1]
    found = np.zeros(len(music.waveform), np.float32)
    for starts, rows in prompting.together(music.sections).items():
      cuts = [
        int(start * self.cascade.tick_seconds * music.sample_rate_hz)
        for start in starts[1:]
      ]
      parts = np.split(music.waveform[rows], cuts, axis=1)
      for start, part in zip(starts, parts):
        heard = self.conditioner.embed_audio(
          part, sample_rate_hz=music.sample_rate_hz
        )
        wanted = np.stack([music.sections[row][start] for row in rows])
        cosine = np.sum(heard * wanted, axis=-1)
        found[rows] += cosine * part.shape[1] / length
    return found

  def _orders(
    self, request: Request, pieces: Sequence[prompting.Piece]
  ) -> list[tuple[list[int], Order]]:
    """Rows that change together, and what is to be made of them."""
    ticks = self.cascade.ticks(request.seconds)
    given = self._given(request, ticks=ticks)
    seeds = request.seeds()
    orders = []
    groups = prompting.together([piece.sections for piece in pieces])
    for starts, rows in groups.items():
      embeddings = {
        start: np.stack([pieces[row].sections[start] for row in rows])
        for start in starts
      }
      order = Order(
        ticks=ticks,
        seeds=seeds[rows],
        sections=tuple(
          Section(start=start, conditions=self._conditions(embedding))
          for start, embedding in embeddings.items()
        ),
        **{kind: np.repeat(c, len(rows), axis=0) for kind, c in given.items()},
      )
      orders.append((rows, order))
    return orders

  def _conditions(
    self, embeddings: Float[np.ndarray, 'batch embed']
  ) -> dict[str, Codes]:
    """Codes of every stream that conditions."""
    if self.conditioner is None:
      return {}
    quantized = self.conditioner.quantize(embeddings)
    return {self.conditioner.stream.name: quantized}

  def _given(self, request: Request, *, ticks: int) -> dict[str, Codes]:
    """Both streams' codes of what is continued, as many whole ticks of each."""
    if not request.is_continuation:
      return {}
    if self.semantic is None:
      raise ValueError(
        'The model has no semantic tokenizer, so it makes music from its'
        ' prompts and cannot go on from audio; leave out continue_from, or'
        ' load the whole model that it was made of.'
      )
    begun = resample.resample(
      request.continue_from,
      from_hz=request.sample_rate_hz,
      to_hz=self.sample_rate_hz,
    )[None]
    semantic = self.semantic().encode(begun, sample_rate_hz=self.sample_rate_hz)
    codes = {
      'semantic': np.asarray(semantic)[..., None],
      'acoustic': np.asarray(
        self.codec.encode(begun, sample_rate_hz=self.sample_rate_hz)
      ),
    }
    cascade = self.cascade
    per_tick = {
      'semantic': cascade.frames(cascade.semantic_stream, ticks=1),
      'acoustic': cascade.frames(cascade.acoustic_stream, ticks=1),
    }
    # A frame that is not full is not continued but made anew.
    begun_seconds = fractions.Fraction(begun.shape[1], self.sample_rate_hz)
    known = min(
      begun_seconds // cascade.tick_seconds,
      *(codes[kind].shape[1] // per_tick[kind] for kind in codes),
    )
    if not 0 < known < ticks:
      raise ValueError(
        f'{float(known * cascade.tick_seconds):g} s are to be continued, and'
        f' the result is to have {float(request.seconds):g} s, those included;'
        ' ask for more, and give at least one frame.'
      )
    return {kind: c[:, : known * per_tick[kind]] for kind, c in codes.items()}


def _until(
  parts: Iterator[np.ndarray], *, num_samples: int
) -> Iterator[Float[np.ndarray, 'batch _']]:
  """The parts, cut after `num_samples`."""
  for part in parts:
    part = np.asarray(part, np.float32)[:, :num_samples]
    num_samples -= part.shape[1]
    if part.shape[1]:
      yield part
