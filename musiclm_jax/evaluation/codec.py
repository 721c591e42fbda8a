# SPDX-License-Identifier: Apache-2.0
"""How well a codec keeps music, level by level, beside Opus on the same clips.

Every system gives one figure a clip and metric; means and their intervals are
taken at the end, and differences between two systems over the same clips. The
measured bitrate of the codec is the order-0 entropy of its codes, level by level,
times their rate: what an ideal entropy coder with one table a level would send,
and the bound that one which adapts its table comes near on long streams. Coders
that know the codes before, or the level below, may send less. SoundStream
(Zeghidour et al., 2021), section V-C, finds 7 to 20 % to gain.

Opus is asked for the codec's own bitrates, as far down as it goes (6 kbps), and
for two and four times of the highest.

Shapes: waveform [samples], codes [frames, levels], counts [levels, codes].
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from musiclm_jax.codec.base import Codec
from musiclm_jax.evaluation import (
  alignment,
  codebook_usage,
  mel_distance,
  opus,
  si_sdr,
  visqol,
)
from musiclm_jax.streams import TokenStream

# (reference, estimate, sample_rate_hz=...) to one figure.
Metric = Callable[..., float]

METRICS: Mapping[str, Metric] = {
  'mel_distance_db': mel_distance.mel_distance,
  'si_sdr_db': alignment.aligned(si_sdr.si_sdr),
  'visqol': visqol.visqol,
}

DEFAULT_LEVELS = (1, 2, 4, 8, 12)
_OPUS_MULTIPLES = (2, 4)  # Of the bitrate of all levels.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copy:
  """What one system made of a clip.

  Attributes:
    system: 'codec, 4 levels' or 'Opus, 6 kbps'.
    waveform: In step with the original, and as long.
    payload_bits: What was sent; `None` for the codec, whose entropy is only
      known over all clips.
  """

  system: str
  waveform: Float[np.ndarray, ' samples']
  payload_bits: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Systems:
  """What is compared: a codec by number of levels, and Opus by bitrate.

  Attributes:
    codec: Its codes of the first levels alone must decode.
    levels: How many levels to decode; those the codec lacks are left out, and
      all of its levels are always among them.
    opus_kbps: What Opus is asked for; bitrates matched to those of the codec if
      left out.
  """

  codec: Codec
  levels: tuple[int, ...] = DEFAULT_LEVELS
  opus_kbps: tuple[int, ...] | None = None

  def __post_init__(self):
    most = self.codec.stream.num_codebooks
    levels = sorted({k for k in self.levels if 0 < k < most} | {most})
    object.__setattr__(self, 'levels', tuple(levels))
    if self.opus_kbps is None:
      object.__setattr__(self, 'opus_kbps', self._matched_opus_kbps())

  def _matched_opus_kbps(self) -> tuple[int, ...]:
    """Whole numbers that Opus can be asked for."""
    of_levels = [nominal_kbps(self.codec.stream, k) for k in self.levels]
    wanted = of_levels + [of_levels[-1] * factor for factor in _OPUS_MULTIPLES]
    reachable = {
      min(max(round(kbps), opus.LOWEST_KBPS), opus.HIGHEST_KBPS)
      for kbps in wanted
    }
    return tuple(sorted(reachable))

  def encode(
    self, waveform: Float[np.ndarray, ' samples']
  ) -> Int[np.ndarray, 'frames levels']:
    codes = self.codec.encode(
      waveform[None], sample_rate_hz=self.codec.sample_rate_hz
    )
    return np.asarray(codes)[0]

  def copies(
    self,
    waveform: Float[np.ndarray, ' samples'],
    *,
    codes: Int[np.ndarray, 'frames levels'] | None = None,
  ) -> Iterator[Copy]:
    """The clip as each system gives it back; `codes` spare encoding again."""
    codes = self.encode(waveform) if codes is None else codes
    for count in self.levels:
      decoded = np.asarray(self.codec.decode(codes[None, :, :count]))[0]
      yield Copy(system=_codec_name(count), waveform=decoded[: waveform.size])
    for kbps in self.opus_kbps:
      coded = opus.code(
        waveform, sample_rate_hz=self.codec.sample_rate_hz, target_kbps=kbps
      )
      yield Copy(
        system=_opus_name(kbps),
        waveform=coded.waveform,
        payload_bits=8 * coded.payload_bytes,
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystemFigures:
  """One system over all clips.

  Attributes:
    name: As in `Copy`.
    nominal_kbps: What it is asked for, or its codes without entropy coding.
    measured_kbps: Payload of the packets; entropy of the codes.
    figures: One figure a clip, by metric, the clips in the same order.
  """

  name: str
  nominal_kbps: float
  measured_kbps: float
  figures: Mapping[str, tuple[float, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodecReport:
  """All that was found.

  Attributes:
    systems: The codec by level, then Opus by bitrate.
    codebooks: Of each level, coarsest first.
    num_clips: Clips heard.
    seconds: Of audio, all clips together.
    sample_rate_hz: Of the clips.
    num_frames: Frames that the codebook figures are over.
  """

  systems: tuple[SystemFigures, ...]
  codebooks: tuple[codebook_usage.CodebookFigures, ...]
  num_clips: int
  seconds: float
  sample_rate_hz: int
  num_frames: int


def evaluate(
  systems: Systems,
  waveforms: Iterable[Float[np.ndarray, ...]],
  *,
  metrics: Mapping[str, Metric],
) -> CodecReport:
  """Runs every system over held-out clips.

  Args:
    systems: What is compared.
    waveforms: Clips at the codec's rate; of one length, or it compiles again.
    metrics: What is taken of each copy, by name.
  """
  tally = _Tally(systems.codec.stream)
  rate_hz = systems.codec.sample_rate_hz
  for waveform in waveforms:
    codes = systems.encode(waveform)
    tally.add_clip(codes, num_samples=waveform.size)
    for copy in systems.copies(waveform, codes=codes):
      figures = {
        name: float(metric(waveform, copy.waveform, sample_rate_hz=rate_hz))
        for name, metric in metrics.items()
      }
      tally.add_copy(copy, figures)
  if not tally.num_clips:
    raise ValueError('There are no clips to evaluate on; give at least 1.')
  return tally.report(systems)


class _Tally:
  """Sums and figures, gathered clip by clip."""

  def __init__(self, stream: TokenStream):
    self.num_clips = 0
    self._num_samples = 0
    shape = (stream.num_codebooks, stream.codebook_size)
    self._counts = np.zeros(shape, np.int64)
    self._figures = collections.defaultdict(
      lambda: collections.defaultdict(list)
    )
    self._payload_bits = collections.Counter()

  def add_clip(
    self, codes: Int[np.ndarray, 'frames levels'], *, num_samples: int
  ) -> None:
    self.num_clips += 1
    self._num_samples += num_samples
    for counts, level in zip(self._counts, codes.T):
      counts += np.bincount(level, minlength=counts.size)

  def add_copy(self, copy: Copy, figures: Mapping[str, float]) -> None:
    for name, figure in figures.items():
      self._figures[copy.system][name].append(figure)
    self._payload_bits[copy.system] += copy.payload_bits or 0

  def report(self, systems: Systems) -> CodecReport:
    rate_hz = systems.codec.sample_rate_hz
    seconds = self._num_samples / rate_hz
    codebooks = tuple(codebook_usage.measure(counts) for counts in self._counts)
    rates = _codec_rates(systems, codebooks)
    for kbps in systems.opus_kbps:
      name = _opus_name(kbps)
      rates[name] = (kbps, self._payload_bits[name] / seconds / 1000)
    return CodecReport(
      systems=tuple(
        SystemFigures(
          name=name,
          nominal_kbps=float(nominal),
          measured_kbps=measured,
          figures={
            metric: tuple(values)
            for metric, values in self._figures[name].items()
          },
        )
        for name, (nominal, measured) in rates.items()
      ),
      codebooks=codebooks,
      num_clips=self.num_clips,
      seconds=seconds,
      sample_rate_hz=rate_hz,
      num_frames=int(self._counts[0].sum()),
    )


def nominal_kbps(stream: TokenStream, num_levels: int) -> float:
  """Of the first levels without entropy coding."""
  bits = num_levels * math.log2(stream.codebook_size)
  return bits * float(stream.rate_hz) / 1000


def _codec_rates(
  systems: Systems, codebooks: Sequence[codebook_usage.CodebookFigures]
) -> dict[str, tuple[float, float]]:
  """(nominal, measured) kbps by name."""
  stream = systems.codec.stream
  frames_per_ms = float(stream.rate_hz) / 1000
  return {
    _codec_name(count): (
      nominal_kbps(stream, count),
      sum(level.entropy_bits for level in codebooks[:count]) * frames_per_ms,
    )
    for count in systems.levels
  }


def _codec_name(num_levels: int) -> str:
  return f'codec, {num_levels} level{"s" if num_levels > 1 else ""}'


def _opus_name(kbps: int) -> str:
  return f'Opus, {kbps} kbps'
