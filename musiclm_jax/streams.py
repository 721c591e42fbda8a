# SPDX-License-Identifier: Apache-2.0
"""What codes are: the vocabulary that every package meets in.

A codec, a semantic tokenizer and a conditioner each make one `TokenStream`.
Stages, corpora and checkpoints speak of streams and of nothing else, so none
of them knows the model that made the codes. Standard library only: this module
is imported by machines that have neither JAX nor TensorFlow.
"""

from __future__ import annotations

import dataclasses
import fractions
from typing import Any, Protocol, runtime_checkable

# Seconds or hertz as a user writes them: read through `Fraction(str(value))`,
# since Fraction(0.04) is not 1/25.
Exact = float | int | str | fractions.Fraction


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenStream:
  """Codes `[batch, frames, levels]`, each in `[0, codebook_size)`.

  Attributes:
    name: What the codes describe: 'acoustic', 'semantic', 'mulan'.
    rate_hz: Frames a second, kept exact as a fraction; `None` for a stream that
      has one frame whatever the window (MuLan: 12 codes for any clip).
    num_codebooks: Residual levels of one frame, coarsest first.
    codebook_size: Codes of each codebook.
    fingerprint: Of the weights that make the codes; `None` until a model has
      been published as a bundle.
  """

  name: str
  rate_hz: Exact | None
  num_codebooks: int
  codebook_size: int
  fingerprint: str | None = None

  def __post_init__(self):
    if not self.name.isidentifier():
      raise ValueError(f'A stream name is an identifier, not {self.name!r}.')
    if self.rate_hz is not None:
      object.__setattr__(self, 'rate_hz', fractions.Fraction(str(self.rate_hz)))
      if self.rate_hz <= 0:
        raise ValueError(
          f'{self.name!r}: rate_hz {self.rate_hz} is not above 0.'
        )
    if self.num_codebooks < 1 or self.codebook_size < 2:
      raise ValueError(
        f'{self.name!r} has {self.num_codebooks} codebooks of'
        f' {self.codebook_size} codes; at least 1 of 2 are needed.'
      )

  def num_frames(self, seconds: Exact) -> int:
    """Frames in a window of `seconds`; a `ValueError` if that is not whole."""
    if self.rate_hz is None:
      return 1
    frames = fractions.Fraction(str(seconds)) * self.rate_hz
    if frames.denominator != 1 or frames <= 0:
      raise ValueError(
        f'{seconds} s is {float(frames):g} frames of {self.name!r} at'
        f' {self.rate_hz} Hz; choose a window that holds a whole number of'
        f' frames: a multiple of {1 / self.rate_hz} s.'
      )
    return int(frames)

  def to_json(self) -> dict[str, Any]:
    """A dictionary that `from_json` reads back, the rate as exact text."""
    fields = dataclasses.asdict(self)
    if self.rate_hz is not None:
      fields['rate_hz'] = str(self.rate_hz)
    return fields

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> TokenStream:
    rate_hz = fields['rate_hz']
    if rate_hz is not None:
      rate_hz = fractions.Fraction(rate_hz)
    return cls(**(fields | {'rate_hz': rate_hz}))


def require_same_stream(
  *, wanted: TokenStream, got: TokenStream, remedy: str
) -> None:
  """Raises if `got` is not exactly the stream that was trained on.

  Args:
    wanted: The stream that a model was built or trained for.
    got: The stream that is offered to it.
    remedy: What the user should run, as the end of the message.

  Raises:
    ValueError: Names every field that differs, both fingerprints included.
  """
  differing = [
    f'{field.name} {getattr(wanted, field.name)} (wanted)'
    f' / {getattr(got, field.name)} (got)'
    for field in dataclasses.fields(TokenStream)
    if getattr(wanted, field.name) != getattr(got, field.name)
  ]
  if differing:
    raise ValueError(
      f'Stream {wanted.name!r} does not match: '
      + '; '.join(differing)
      + f'. {remedy}'
    )


@runtime_checkable
class HasCodebooks(Protocol):
  """A model whose codes stand for vectors, which not every one's do.

  Attributes:
    codebooks: [levels, codes, dim] of its stream, float32 on the host.
  """

  @property
  def codebooks(self) -> Any: ...
