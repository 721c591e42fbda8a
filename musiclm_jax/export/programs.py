# SPDX-License-Identifier: Apache-2.0
"""An exported folder's models as programs that run without their Python.

`torch.export` writes what a module computes, weights included, to one `.pt2`
file. A host needs torch alone:

    step = torch.export.load('programs/stages_coarse_step.pt2').module()
    logits = step(tokens, cache, position)

`programs.json` says what goes in and out of each, and how the rows of a stage
are laid out. Each file is read back and compared with its module, at sizes
other than those it was traced with, in the parity sheet.

Shapes: batch; samples = frames * hop; levels; length = positions of a row;
capacity = positions that a cache has room for.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from musiclm_jax.export import parity
from musiclm_jax.export.pytorch.codec import Codec
from musiclm_jax.export.pytorch.layout import StageLayout
from musiclm_jax.export.pytorch.mulan import MuLan
from musiclm_jax.export.pytorch.mulan_towers import TextTower
from musiclm_jax.export.pytorch.stage import StageLM

FOLDER = 'programs'
JSON = 'programs.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
  """A module to be written, and how its inputs may vary.

  Attributes:
    name: Of the file.
    module: What is computed.
    example: Makes inputs, from a batch and another size.
    axes: By the name of each input, what its axes are called: a name that
      varies, or a number that does not.
    outputs: Their names and axes, in order.
    scale: What an axis counts, where it is a multiple: {'samples': hop}.
    most: How long an axis may be, where there is an end to it.
  """

  name: str
  module: nn.Module
  example: Callable[[int, int], tuple[Tensor, ...]]
  axes: Mapping[str, tuple[str | int, ...]]
  outputs: Mapping[str, tuple[str | int, ...]]
  scale: Mapping[str, int] = dataclasses.field(default_factory=dict)
  most: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def dynamic_shapes(self) -> dict[str, dict[int, Any]]:
    """In torch.export's words."""
    dims = {
      name: Dim(name, min=1 if name == 'batch' else 2, max=self.most.get(name))
      for axes in self.axes.values()
      for name in axes
      if isinstance(name, str) and name not in self.scale
    }
    for name, factor in self.scale.items():
      dims[name] = factor * Dim('frames', min=2)
    return {
      argument: {
        axis: dims[name]
        for axis, name in enumerate(axes)
        if isinstance(name, str)
      }
      for argument, axes in self.axes.items()
    }

  def describe(self) -> dict[str, Any]:
    """What `programs.json` says of it."""
    inputs = zip(self.axes.items(), self.example(2, 7))
    return {
      'inputs': {
        argument: {'axes': axes, 'dtype': str(tensor.dtype)[len('torch.') :]}
        for (argument, axes), tensor in inputs
      },
      'outputs': dict(self.outputs),
    }


def write(
  directory: pathlib.Path, *, places: Collection[str], sheet: parity.Sheet
) -> None:
  """Writes the programs of an exported folder's components into it.

  Args:
    directory: The exported folder.
    places: Of its components.
    sheet: Where what comes back from the files is compared with the modules.

  Raises:
    ValueError: There is nothing to write, or a program makes something of
      another shape or type than its module.
  """
  folder = directory / FOLDER
  folder.mkdir()
  described: dict[str, Any] = {'programs': {}, 'layouts': {}}
  found = list(of_folder(directory, places=places))
  if not found:
    raise ValueError(
      'Programs are made of the codec, MuLan and stages, not of'
      f' {", ".join(places)}.'
    )
  for program in found:
    path = folder / f'{program.name}.pt2'
    exported = torch.export.export(
      program.module.requires_grad_(False),  # A host need not switch it off.
      program.example(2, 7),
      dynamic_shapes=program.dynamic_shapes(),
    )
    torch.export.save(exported, path)
    loaded = torch.export.load(path).module()
    compare(sheet, FOLDER, program=program, loaded=loaded)
    described['programs'][program.name] = program.describe()
  for place in sorted(places):
    if place.startswith('stages/'):
      layout = StageLM.from_pretrained(directory / place).layout
      described['layouts'][place] = _described(layout)
  (folder / JSON).write_text(json.dumps(described, indent=2) + '\n')


def of_folder(
  directory: pathlib.Path, *, places: Collection[str]
) -> Iterator[Program]:
  """The programs of the components at `places`."""
  for place in sorted(places):
    if place == 'codec':
      yield from of_codec(Codec.from_pretrained(directory / place))
    elif place == 'mulan':
      yield of_text(MuLan.from_pretrained(directory / place))
    elif place.startswith('stages/'):
      stage = StageLM.from_pretrained(directory / place)
      yield from of_stage(stage, name=place.replace('/', '_'))


def compare(
  sheet: parity.Sheet,
  component: str,
  *,
  program: Program,
  loaded: Callable[..., Any],
  in_place: bool = True,
) -> None:
  """Adds what `loaded` makes beside what the module makes, at two other sizes.

  Args:
    sheet: Where to.
    component: 'programs' or 'onnx'.
    program: What it was made of.
    loaded: What came back from a file.
    in_place: Whether inputs that the module writes to are compared too.

  Raises:
    ValueError: It makes something of another shape or type.
  """
  for batch, size in ((1, 11), (3, 5)):
    wanted, got = program.example(batch, size), program.example(batch, size)
    with torch.no_grad():
      results = program.module(*wanted), loaded(*got)
    compared = [(program.outputs, *map(_as_tuple, results))]
    if in_place:
      compared.append((program.axes, wanted, got))
    for name, left, right in (
      row for columns in compared for row in zip(*columns, strict=True)
    ):
      label = f'{program.name} {name} at batch {batch}, size {size}'
      _compare_tensors(sheet, component, label, wanted=left, got=right)


def _compare_tensors(
  sheet: parity.Sheet, component: str, name: str, *, wanted: Tensor, got: Tensor
) -> None:
  if (wanted.shape, wanted.dtype) != (got.shape, got.dtype):
    raise ValueError(
      f'{component} {name}: the module makes {wanted.dtype}'
      f' {list(wanted.shape)}, the file {got.dtype} {list(got.shape)}.'
    )
  pair = {'wanted': wanted.numpy(), 'got': got.numpy()}
  if wanted.is_floating_point():
    # A program may choose other kernels than the module did.
    sheet.values(component, name, **pair, relative=parity.LAYER_BOUND)
  else:
    sheet.codes(component, name, **pair, least_share=1.0)


def of_codec(codec: Codec) -> Iterator[Program]:
  """Encoder, if there is one, and decoder; folds the weight norm of `codec`."""
  codec.fold_weight_norm()
  hop, levels = codec.hop_samples, codec.num_levels

  def waveform(batch: int, frames: int) -> tuple[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(batch, frames * hop, generator=generator) - 0.5,)

  def codes(batch: int, frames: int) -> tuple[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = batch, frames, levels
    return (torch.randint(codec.codebook_size, shape, generator=generator),)

  codes_axes = 'batch', 'frames', levels
  if codec.encoder is not None:
    yield Program(
      name='codec_encode',
      module=_Encode(codec),
      example=waveform,
      axes={'waveform': ('batch', 'samples')},
      outputs={'codes': codes_axes},
      scale={'samples': hop},
    )
  yield Program(
    name='codec_decode',
    module=_Decode(codec),
    example=codes,
    axes={'codes': codes_axes},
    outputs={'waveform': ('batch', 'samples')},
  )


def of_text(mulan: MuLan) -> Program:
  """The text tower: ids of tokens to a point of the joint space."""

  def example(batch: int, length: int) -> tuple[Tensor, Tensor]:
    tokens = torch.arange(batch * length).reshape(batch, length)
    lengths = torch.full((batch, 1), length - 1)
    num_ids = mulan.text.bert.words.num_embeddings
    return tokens % num_ids, torch.arange(length) < lengths

  return Program(
    name='mulan_text',
    module=_Text(mulan.text),
    example=example,
    axes={
      'tokens': ('batch', 'length'),
      'token_mask': ('batch', 'length'),
    },
    outputs={'joint_embedding': ('batch', mulan.embed_dim)},
    most={'length': mulan.text.bert.positions.num_embeddings},
  )


def of_stage(stage: StageLM, *, name: str) -> Iterator[Program]:
  """The prompt in one pass, and one position after it."""
  layout, body = stage.layout, stage.transformer.config
  cache_axes = (
    body.num_layers,
    2,
    'batch',
    body.num_heads,
    'capacity',
    body.head_dim,
  )
  capacity = layout.length

  def prompt(batch: int, length: int) -> tuple[Tensor, Tensor]:
    tokens = torch.arange(batch * length).reshape(batch, length)
    cache = stage.new_cache(batch, capacity=capacity)
    return tokens % layout.vocabulary_size, cache

  def position(batch: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = stage.new_cache(batch, capacity=capacity - size).shape
    cache = torch.randn(shape, generator=generator)
    now = layout.output.start - 1 + size % len(layout.output.levels)
    return torch.arange(batch), cache, torch.tensor([now])

  yield Program(
    name=f'{name}_prefill',
    module=_Prefill(stage),
    example=prompt,
    axes={'tokens': ('batch', 'length'), 'cache': cache_axes},
    outputs={'position': (1,)},
  )
  yield Program(
    name=f'{name}_step',
    module=_Step(stage),
    example=position,
    axes={'tokens': ('batch',), 'cache': cache_axes, 'position': (1,)},
    outputs={'logits': ('batch', layout.output.stream.codebook_size)},
  )


class _Encode(nn.Module):
  def __init__(self, codec: Codec):
    super().__init__()
    self.codec = codec

  def forward(self, waveform: Tensor) -> Tensor:
    return self.codec.encode_chunk(waveform)[0]


class _Decode(nn.Module):
  def __init__(self, codec: Codec):
    super().__init__()
    self.codec = codec

  def forward(self, codes: Tensor) -> Tensor:
    return self.codec.decode_chunk(codes)[0]


class _Text(nn.Module):
  def __init__(self, tower: TextTower):
    super().__init__()
    self.tower = tower

  def forward(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
    return self.tower(tokens, token_mask=token_mask)


class _Prefill(nn.Module):
  def __init__(self, stage: StageLM):
    super().__init__()
    self.stage = stage

  def forward(self, tokens: Tensor, cache: Tensor) -> Tensor:
    """Fills the cache in place; gives the first position after."""
    self.stage.prefill(tokens, cache=cache)
    return torch.full((1,), tokens.shape[1], dtype=torch.int64)


class _Step(nn.Module):
  def __init__(self, stage: StageLM):
    super().__init__()
    self.stage = stage

  def forward(self, tokens: Tensor, cache: Tensor, position: Tensor) -> Tensor:
    return self.stage.step(tokens, cache=cache, position=position)


def _described(layout: StageLayout) -> dict[str, Any]:
  """Ids and positions of a row, for hosts that make their own."""
  return {
    'length': layout.length,
    'bos_id': layout.bos_id,
    'null_id': layout.null_id,
    'pad_id': layout.pad_id,
    'segments': [
      {
        'stream': segment.stream.name,
        'codebook_size': segment.stream.codebook_size,
        'levels': list(segment.levels),
        'num_frames': segment.num_frames,
        'separator_id': layout.pad_id + 1 + index,
        'start': segment.start,
        'first_ids': segment.first_ids,
      }
      for index, segment in enumerate(layout.segments)
    ],
  }


def _as_tuple(value: Any) -> tuple[Tensor, ...]:
  return value if isinstance(value, tuple) else (value,)
