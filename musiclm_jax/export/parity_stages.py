# SPDX-License-Identifier: Apache-2.0
"""A stage beside its export: layers, logits, and the codes that both make.

Rows are given to both (teacher forcing), so that an error of one position does
not hide those after it. Then each makes rows of its own: once they differ, the
first code that does must have been a near tie, with what was drawn for it
counted in.

Shapes: rows [batch, length]; logits [batch, frames, levels, codes].
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float, Int

from musiclm_jax.checkpoints.bundle import Bundle
from musiclm_jax.export import parity, parity_layers
from musiclm_jax.export.clips import Clips
from musiclm_jax.export.pytorch import sampling as torch_sampling
from musiclm_jax.export.pytorch.decoding import StageDecoder as TorchDecoder
from musiclm_jax.export.pytorch.stage import StageLM as TorchStage
from musiclm_jax.inference import rows, sampling
from musiclm_jax.inference.decoding import DecodingConfig, StageDecoder
from musiclm_jax.stages import lm

LOGIT_BOUND = 1e-3

# Rows that both make, and what they are keyed by.
_NUM_ROWS = 2
_STAGE_INDEX = 1

Rows = Int[np.ndarray, 'batch length']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
  """One stage on both sides.

  Attributes:
    component: Its place in the folder.
    found: The bundle, as `reference.plain` gives it.
    exported: PyTorch's model.
  """

  component: str
  found: Bundle
  exported: TorchStage

  @classmethod
  def load(cls, component: str, found: Bundle, folder: pathlib.Path) -> Pair:
    exported = TorchStage.from_pretrained(folder)
    return cls(component=component, found=found, exported=exported)

  @property
  def config(self) -> lm.StageLMConfig:
    return self.found.config

  @property
  def params(self) -> Mapping[str, object]:
    return self.found.weights['params']


def compare(
  sheet: parity.Sheet,
  component: str,
  *,
  found: Bundle,
  folder: pathlib.Path,
  clips: Clips,
) -> None:
  """Adds all checks of a stage, over rows of random codes: a `Comparison`."""
  del clips  # A stage alone hears none; see `parity_music_lm`.
  pair = Pair.load(component, found, folder)
  packed = pair.config.layout.pack(random_codes(pair.config))
  compare_layers(sheet, pair, packed)
  compare_logits(sheet, pair, packed, about='random rows')
  for name, temperature in (('greedy', None), ('drawn', 1.0)):
    compare_decoding(sheet, pair, packed, name=name, temperature=temperature)


def random_codes(
  config: lm.StageLMConfig,
) -> dict[str, Int[np.ndarray, 'batch _ _']]:
  """Legal codes of every stream, of one window."""
  draws = np.random.default_rng(0)
  spec = config.spec
  return {
    name: draws.integers(
      stream.codebook_size,
      size=(
        _NUM_ROWS,
        stream.num_frames(spec.window_seconds),
        stream.num_codebooks,
      ),
    ).astype(np.int32)
    for name, stream in spec.streams.items()
  }


def compare_layers(sheet: parity.Sheet, pair: Pair, packed: Rows) -> None:
  """Every layer over whole rows."""
  variables = {'params': pair.params}
  ours = parity_layers.run_linen(
    lm.StageLM(pair.config), variables, packed, method='__call__'
  )
  with parity_layers.capture_torch(pair.exported) as theirs, torch.no_grad():
    pair.exported(torch.from_numpy(packed).long())
  parity_layers.compare(
    sheet,
    pair.component,
    kind=pair.found.kind,
    variables=variables,
    wanted=ours.layers,
    model=pair.exported,
    got=theirs,
  )


def compare_logits(
  sheet: parity.Sheet, pair: Pair, packed: Rows, *, about: str
) -> None:
  """Logits of whole rows, and which code is the likeliest."""
  wanted = _logits(pair, packed)
  with torch.no_grad():
    got = pair.exported(torch.from_numpy(packed).long()).numpy()
  sheet.values(
    pair.component,
    f'logits of {about}',
    wanted=wanted,
    got=got,
    absolute=LOGIT_BOUND,
  )
  likeliest, theirs = wanted.argmax(axis=-1), got.argmax(axis=-1)
  beyond = (likeliest != theirs) & (_margin(wanted) > LOGIT_BOUND)
  sheet.codes(
    pair.component,
    f'likeliest codes of {about}',
    wanted=likeliest,
    got=theirs,
    num_unexplained=int(beyond.sum()),
  )


def compare_decoding(
  sheet: parity.Sheet,
  pair: Pair,
  packed: Rows,
  *,
  name: str,
  temperature: float | None,
) -> None:
  """What both make after the same inputs.

  Args:
    sheet: Where to.
    pair: The stage.
    packed: Rows, of which the inputs are kept.
    name: How, in words.
    temperature: To draw with; None takes the likeliest.
  """
  layout = pair.config.layout
  prompts = packed.copy()
  prompts[:, layout.output.positions] = layout.pad_id
  seeds = np.arange(len(packed), dtype=np.uint32)
  places = np.full_like(seeds, 3)
  wanted = _decode_jax(pair, prompts, seeds, places, temperature=temperature)
  got = _decode_torch(pair, prompts, seeds, places, temperature=temperature)
  differ = (wanted != got)[:, layout.output.positions]
  notes, num_unexplained = [], 0
  if differ.any():
    margins = _drawn_margins(
      pair, wanted, seeds, places, temperature=temperature
    )
    bound = LOGIT_BOUND / (temperature or 1)
    for row in np.flatnonzero(differ.any(axis=1)):
      step = int(differ[row].argmax())
      notes.append(
        f'row {row} from step {step}: margin {margins[row, step]:.2g}'
      )
      num_unexplained += bool(margins[row, step] > bound)
  sheet.codes(
    pair.component,
    f'codes, {name}',
    wanted=wanted,
    got=got,
    num_unexplained=num_unexplained,
    note=f'({"; ".join(notes)})' if notes else '',
  )


@functools.partial(jax.jit, static_argnames='config')
def _apply(
  config: lm.StageLMConfig, params: Mapping[str, object], packed: jax.Array
) -> jax.Array:
  return lm.StageLM(config).apply({'params': params}, packed)


def _logits(
  pair: Pair, packed: Rows
) -> Float[np.ndarray, 'batch frames levels codes']:
  with parity.highest_precision():
    return np.asarray(_apply(pair.config, pair.params, packed))


def _decode_jax(
  pair: Pair,
  prompts: Rows,
  seeds: np.ndarray,
  places: np.ndarray,
  *,
  temperature: float | None,
) -> Rows:
  sampler = sampling.greedy
  if temperature is not None:
    sampler = sampling.Categorical(temperature=temperature)
  decoder = StageDecoder(
    config=pair.config,
    params=pair.params,
    decoding=DecodingConfig(sampler=sampler),
  )
  with parity.highest_precision():
    return rows.decode(
      decoder,
      prompts,
      seeds=seeds,
      places=places,
      stage_index=_STAGE_INDEX,
      dropped_streams=(),
      max_rows=len(prompts),
    )


def _decode_torch(
  pair: Pair,
  prompts: Rows,
  seeds: np.ndarray,
  places: np.ndarray,
  *,
  temperature: float | None,
) -> Rows:
  decoder = TorchDecoder(
    model=pair.exported,
    index=_STAGE_INDEX,
    sampler=torch_sampling.Sampler(temperature or 0.0),
    guidance=None,
    dropped=(),
    max_rows=len(prompts),
  )
  with torch.no_grad():
    made = decoder.decode(
      torch.from_numpy(prompts).long(),
      seeds=torch.from_numpy(seeds.astype(np.int64)),
      places=torch.from_numpy(places.astype(np.int64)),
    )
  return made.numpy().astype(prompts.dtype)


def _drawn_margins(
  pair: Pair,
  packed: Rows,
  seeds: np.ndarray,
  places: np.ndarray,
  *,
  temperature: float | None,
) -> Float[np.ndarray, 'batch steps']:
  """How far the best code stood above the next, what was drawn counted in."""
  logits = _logits(pair, packed)
  logits = logits.reshape(len(packed), -1, logits.shape[-1])
  if temperature is None:
    return _margin(logits)
  first = pair.config.layout.output.start
  positions = first + jnp.arange(logits.shape[1])

  @jax.jit
  def draw(seed: jax.Array, place: jax.Array) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(seed), _STAGE_INDEX)
    key = jax.random.fold_in(key, place)
    keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(
      positions
    )
    return jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[-1:]))(keys)

  drawn = np.stack([np.asarray(draw(*row)) for row in zip(seeds, places)])
  return _margin(logits / temperature + drawn)


def _margin(logits: Float[np.ndarray, '*lead codes']) -> np.ndarray:
  """Of the largest over the second."""
  second, first = np.moveaxis(
    np.partition(logits, -2, axis=-1)[..., -2:], -1, 0
  )
  return first - second
