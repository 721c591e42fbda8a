# SPDX-License-Identifier: Apache-2.0
"""What a published model made once, to tell on any machine that it still does.

A piece is made of one prompt and seed. Each stage then reads a row of the
piece's codes (teacher forcing), and its logits at some places are kept. Logits
must agree everywhere; the piece itself, code by code, only on the platform that
made it, since elsewhere a near tie may fall the other way.

Shapes: codes [1, frames, levels]; rows [1, length]; logits [places, codes].
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import platform
import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float, Int

from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.inference.music_lm import Music, MusicLM
from musiclm_jax.inference.request import Request
from musiclm_jax.stages import lm
from musiclm_jax.stages.layout import NO_CODE
from musiclm_jax.stages.spec import STAGES

FILE = 'golden.safetensors'

# Of a logit; of the margin below which the likeliest code may be another.
BOUND = 1e-3

_STREAMS = ('semantic', 'acoustic')
_NUM_PLACES = 16
_FLAGS = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')

_Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Golden:
  """One piece, and what the stages say of it.

  Attributes:
    prompt: In words; None of a model that takes none.
    seconds: Length of the piece.
    seed: What it draws from.
    platform: Where it was made.
    fingerprints: Of the model's bundles.
    sampling: What the model drew with, a `SamplingConfig` in plain fields.
    codes: Of the piece, by stream.
    rows: Of each stage, by name.
    places: Codes of the output that logits are kept of, counted from its first.
    logits: At these places, before the code is known.
  """

  prompt: str | None
  seconds: str
  seed: int
  platform: str
  fingerprints: Mapping[str, str]
  sampling: Mapping[str, Any]
  codes: Mapping[str, Int[np.ndarray, '1 _ _']]
  rows: Mapping[str, Int[np.ndarray, '1 _']]
  places: Mapping[str, Int[np.ndarray, ' _']]
  logits: Mapping[str, Float[np.ndarray, '_ _']]


def make(
  music_lm: MusicLM, *, prompt: str | None, seconds: str = '3', seed: int = 0
) -> Golden:
  """A piece of this model, on this machine."""
  request = _request(prompt=prompt, seconds=seconds, seed=seed)
  music = music_lm.compose(request)
  codes = {
    name: np.asarray(getattr(music, name), np.int32) for name in _STREAMS
  }
  rows, places, logits = {}, {}, {}
  for name, decoder in _stages(music_lm):
    row = _row(music_lm, decoder, music)
    known = np.flatnonzero(decoder.config.layout.unpack(row) != NO_CODE)
    spread = np.linspace(0, len(known) - 1, _NUM_PLACES).round().astype(int)
    rows[name], places[name] = row, known[np.unique(spread)]
    logits[name] = _logits(decoder, row, places[name])
  return Golden(
    prompt=prompt,
    seconds=seconds,
    seed=seed,
    platform=this_platform(),
    fingerprints=dict(music_lm.fingerprints),
    sampling=dataclasses.asdict(music_lm.sampling),
    codes=codes,
    rows=rows,
    places=places,
    logits=logits,
  )


def require_same(music_lm: MusicLM, golden: Golden) -> str:
  """Raises unless the model still says and makes what it did.

  Args:
    music_lm: The model, its stages in float32.
    golden: What it made.

  Returns:
    What was compared, and the largest error of a logit.

  Raises:
    ValueError: It is another model or states other sampling; or a logit is off
      by more than `BOUND`, the likeliest code is another although it led by
      more than that; or, on the platform of the file, the piece differs.
  """
  _require_same_model(music_lm, golden)
  wrong, largest = [], 0.0
  for name, decoder in _stages(music_lm):
    wanted = golden.logits[name]
    got = _logits(decoder, golden.rows[name], golden.places[name])
    error = float(np.abs(got - wanted).max())
    largest = max(largest, error)
    if not error <= BOUND:  # So written that NaN fails.
      wrong.append(f'logits of stage {name!r} differ by {error:.2g}')
    second, first = np.sort(wanted, axis=-1)[:, -2:].T
    other = got.argmax(axis=-1) != wanted.argmax(axis=-1)
    if flips := int(np.sum(other & (first - second > BOUND))):
      wrong.append(f'{flips} likeliest codes of stage {name!r} are others')
  made = 'codes not compared, since they are those of ' + golden.platform
  if golden.platform == this_platform():
    made = 'codes equal'
    wrong += _other_codes(music_lm, golden)
  if wrong:
    raise ValueError(f'The model is not what it was: {"; ".join(wrong)}.')
  return f'largest error of a logit {largest:.2g}; {made}'


def write(path: _Path, golden: Golden) -> None:
  """Writes the file, whole or not at all."""
  path = pathlib.Path(path)
  fields = dataclasses.asdict(golden)
  groups = {name: fields.pop(name) for name in _arrays()}
  staged = path.with_name(f'.{path.name}')
  safetensors.numpy.save_file(
    {
      f'{group}/{name}': np.ascontiguousarray(array)
      for group, arrays in groups.items()
      for name, array in arrays.items()
    },
    staged,
    metadata={'golden': json.dumps(fields)},
  )
  staged.chmod(0o644)  # safetensors makes its file for the owner alone.
  os.replace(staged, path)


def read(path: _Path) -> Golden:
  """The file that `write` wrote."""
  groups: dict[str, Any] = {group: {} for group in _arrays()}
  with safetensors.safe_open(path, 'numpy') as file:
    fields = json.loads(file.metadata()['golden'])
    for key in file.keys():  # noqa: SIM118  It is no mapping.
      group, name = key.split('/')
      groups[group][name] = file.get_tensor(key)
  return Golden(**fields, **groups)


def this_platform() -> str:
  """What decides how sums are rounded here, as far as that can be told."""
  kind = jax.devices()[0].device_kind
  if jax.default_backend() == 'cpu':
    cpuinfo = pathlib.Path('/proc/cpuinfo')
    text = cpuinfo.read_text() if cpuinfo.exists() else ''
    model = re.search(r'model name\s*:\s*(.+)', text)
    # A product is cut into as many sums as there are threads.
    kind = (
      f'{model[1] if model else platform.machine()}, {_num_cores()} cores as'
      f' {jax.local_device_count()} devices'
    )
  return f'{jax.default_backend()}, {kind}, jax {jax.__version__}{_flags()}'


def _num_cores() -> int:
  """That this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _flags() -> str:
  """XLA's, as a hash: they may name folders of this machine."""
  given = [os.environ.get(name, '') for name in _FLAGS]
  flags = sorted(' '.join(given).split())
  if not flags:
    return ''
  return f', flags {zlib.crc32(" ".join(flags).encode()):08x}'


def _arrays() -> tuple[str, ...]:
  return 'codes', 'rows', 'places', 'logits'


def _request(*, prompt: str | None, seconds: str, seed: int) -> Request:
  return Request(
    prompts=None if prompt is None else [prompt], seconds=seconds, seed=seed
  )


def _stages(music_lm: MusicLM) -> list[tuple[str, StageDecoder]]:
  return [(name, getattr(music_lm.cascade, name)) for name in STAGES]


def _require_same_model(music_lm: MusicLM, golden: Golden) -> None:
  if dict(music_lm.fingerprints) != dict(golden.fingerprints):
    raise ValueError(
      f'Made by {dict(golden.fingerprints)}, but the model is'
      f' {dict(music_lm.fingerprints)}; make the file anew.'
    )
  sampling = dataclasses.asdict(music_lm.sampling)
  if sampling != golden.sampling:
    raise ValueError(
      f'Sampled with {golden.sampling}, but the model states {sampling}; make'
      ' the file anew.'
    )


def _other_codes(music_lm: MusicLM, golden: Golden) -> list[str]:
  """What is wrong with the same piece, made again."""
  music = music_lm.compose(
    _request(prompt=golden.prompt, seconds=golden.seconds, seed=golden.seed)
  )
  wrong = []
  for name, wanted in golden.codes.items():
    differ = np.flatnonzero((getattr(music, name) != wanted).any(axis=(0, 2)))
    if len(differ):
      wrong.append(f'{name} codes differ from frame {differ[0]} on')
  return wrong


def _row(
  music_lm: MusicLM, decoder: StageDecoder, music: Music
) -> Int[np.ndarray, '1 length']:
  """The piece's first window, as far as there is so much of it."""
  codes, masks = {}, {}
  window = decoder.config.spec.window_seconds
  for stream in decoder.config.spec.streams.values():
    if stream.rate_hz is None:
      (sections,) = music.sections
      codes[stream.name] = music_lm.conditioner.quantize(sections[0][None])
      continue
    made = getattr(music, stream.name)
    length = stream.num_frames(window)
    found = min(length, made.shape[1])
    room = ((0, 0), (0, length - found), (0, 0))
    codes[stream.name] = np.pad(made[:, :found], room).astype(np.int32)
    masks[stream.name] = np.arange(length)[None] < found
  packed = decoder.config.layout.pack(codes, frame_masks=masks)
  return np.asarray(packed, np.int32)


@functools.partial(jax.jit, static_argnames='config')
def _apply(config: lm.StageLMConfig, params: Any, row: jax.Array) -> jax.Array:
  return lm.StageLM(config).apply({'params': params}, row)


def _logits(
  decoder: StageDecoder,
  row: Int[np.ndarray, '1 length'],
  places: Int[np.ndarray, ' places'],
) -> Float[np.ndarray, 'places codes']:
  # A GPU or a TPU else rounds the factors.
  with jax.default_matmul_precision('highest'):
    logits = np.asarray(_apply(decoder.config, decoder.params, row))
  return logits.reshape(-1, logits.shape[-1])[places]
