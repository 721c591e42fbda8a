# SPDX-License-Identifier: Apache-2.0
"""Codec and stages as StableHLO, for JAX hosts without the models' Python.

`jax.export` writes a program for CPU, CUDA and TPU with a batch of any size.
Weights are an argument, a flat dict of arrays, and lie beside the programs:

    weights = safetensors.numpy.load_file('stablehlo/codec.safetensors')
    program = jax.export.deserialize(
      pathlib.Path('stablehlo/codec_decode.stablehlo').read_bytes())
    waveform, state = program.call(weights, state, codes)

`programs.json` has the shapes of everything, and with which temperature, top-k,
top-p and guidance a whole model's stages want to be sampled, which is the
host's work. A state and a cache begin with zeros. What a program takes and
gives back is made of dicts, lists and arrays.

Shapes: batch; samples and frames = one chunk of the codec; levels; capacity =
positions of a whole row.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.checkpoints.bundle import Bundle
from musiclm_jax.codec import chunked
from musiclm_jax.codec.soundstream import SoundStream, SoundStreamConfig
from musiclm_jax.export.folder import Model
from musiclm_jax.layers import cache as caches_lib
from musiclm_jax.layers import convolution
from musiclm_jax.layers.cache import LayerCache
from musiclm_jax.stages import lm

FOLDER = 'stablehlo'
JSON = 'programs.json'
PLATFORMS = ('cpu', 'cuda', 'tpu')

_Flat = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
  """What is written to one file.

  Attributes:
    name: Of the file.
    function: Of (weights, *arguments), all flat dicts, lists and arrays.
    arguments: Their names and shapes, with a batch of the number given.
  """

  name: str
  function: Callable[..., Any]
  arguments: Callable[[Any], dict[str, Any]]


def write(directory: pathlib.Path, model: Model) -> None:
  """Writes programs and weights of codec and stages into `directory`.

  Args:
    directory: An exported folder, or the beginning of one.
    model: Bundles that are neither codec nor stage are left out.

  Raises:
    ValueError: All of them are.
  """
  folder = directory / FOLDER
  folder.mkdir()
  described: dict[str, Any] = {'programs': {}}
  if model.sampling is not None:  # In full: a host knows no defaults.
    described['sampling'] = dataclasses.asdict(model.sampling)
  for place, found in model.bundles.items():
    if found.kind not in _PROGRAMS:
      continue
    name = place.replace('/', '_')
    weights, programs = _PROGRAMS[found.kind](found, name=name)
    safetensors.numpy.save_file(weights, folder / f'{name}.safetensors')
    for program in programs:
      exported = trace(program, weights)
      path = folder / f'{program.name}.stablehlo'
      path.write_bytes(exported.serialize())
      described['programs'][program.name] = {
        'weights': f'{name}.safetensors',
        'platforms': list(PLATFORMS),
        'arguments': _described(program.arguments(_batch())),
        'outputs': _described(_outputs(exported)),
      }
  if not described['programs']:
    raise ValueError(
      'StableHLO is made of the codec and stages, not of'
      f' {", ".join(model.bundles)}.'
    )
  (folder / JSON).write_text(json.dumps(described, indent=2) + '\n')


def trace(program: Program, weights: Mapping[str, Any]) -> jax.export.Exported:
  """The program, for all platforms and any batch."""
  shapes = {
    k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in weights.items()
  }
  return jax.export.export(jax.jit(program.function), platforms=PLATFORMS)(
    shapes, *program.arguments(_batch()).values()
  )


def of_codec(found: Bundle, *, name: str) -> tuple[_Flat, list[Program]]:
  """Weights, and one chunk of encoding and of decoding."""
  config: SoundStreamConfig = found.config
  weights = dict(found.weights)
  if config.weight_norm:
    weights['params'] = convolution.fold_weight_norm(weights['params'])
  module = SoundStream(dataclasses.replace(config, weight_norm=False))
  flat = _on_host(weights)
  shapes = {
    'encode': ((chunked.CHUNK_FRAMES * config.hop_samples,), jnp.float32),
    'decode': (
      (chunked.CHUNK_FRAMES, config.quantizer.num_levels),
      jnp.int32,
    ),
  }
  if 'encoder' not in weights['params']:  # A copy that only decodes.
    del shapes['encode']
  inputs = {'encode': 'waveform', 'decode': 'codes'}
  programs = []
  for method, (shape, dtype) in shapes.items():
    run = _streaming(module, method)

    def arguments(
      batch: Any,
      run: Any = run,
      shape: Any = shape,
      dtype: Any = dtype,
      argument: str = inputs[method],
    ) -> dict[str, Any]:
      chunk = jax.ShapeDtypeStruct((batch, *shape), dtype)
      _, state = jax.eval_shape(run, flat, {}, chunk)
      return {'state': state, argument: chunk}

    programs.append(
      Program(name=f'{name}_{method}', function=run, arguments=arguments)
    )
  return flat, programs


def of_stage(found: Bundle, *, name: str) -> tuple[_Flat, list[Program]]:
  """Weights, and the reading of a prompt and the step after it."""
  config, params = lm.to_decode(found.config, found.weights['params'])
  model, layout = lm.StageLM(config), config.layout
  flat = _on_host(params)

  def prefill(weights: _Flat, tokens: jax.Array) -> list[_Flat]:
    caches = model.apply(
      {'params': fingerprints.unflatten(weights)},
      tokens,
      method=lm.StageLM.prefill,
    )
    return _to_plain(caches_lib.grow(caches, capacity=layout.length))

  def step(
    weights: _Flat,
    caches: list[_Flat],
    tokens: jax.Array,
    valid_mask: jax.Array,
    position: jax.Array,
  ) -> tuple[jax.Array, list[_Flat]]:
    made = model.apply(
      {'params': fingerprints.unflatten(weights)},
      tokens,
      caches=tuple(LayerCache(**cache) for cache in caches),
      valid_mask=valid_mask,
      position=position,
      method=lm.StageLM.step,
    )
    return made.logits, _to_plain(made.caches)

  def prompt(batch: Any) -> dict[str, Any]:
    # All before the first code of the output; the last is the first step's.
    shape = batch, layout.output.start - 1
    return {'tokens': jax.ShapeDtypeStruct(shape, jnp.int32)}

  def one(batch: Any) -> dict[str, Any]:
    caches = jax.eval_shape(prefill, flat, prompt(batch)['tokens'])
    return {
      'caches': caches,
      'tokens': jax.ShapeDtypeStruct((batch,), jnp.int32),
      'valid_mask': jax.ShapeDtypeStruct((batch, layout.length), jnp.bool_),
      'position': jax.ShapeDtypeStruct((), jnp.int32),
    }

  return flat, [
    Program(name=f'{name}_prefill', function=prefill, arguments=prompt),
    Program(name=f'{name}_step', function=step, arguments=one),
  ]


_PROGRAMS = {'codec': of_codec, 'stage': of_stage}


def _streaming(module: SoundStream, method: str) -> Callable[..., Any]:
  """(weights, state, chunk) to (outputs, state), all flat."""

  def run(
    weights: _Flat, state: _Flat, chunk: jax.Array
  ) -> tuple[jax.Array, _Flat]:
    outputs, after = module.apply(
      {**fingerprints.unflatten(weights), **fingerprints.unflatten(state)},
      chunk,
      method=method,
      mutable=[convolution.HISTORY],
    )
    return outputs, fingerprints.flatten(after)

  return run


def _to_plain(caches: tuple[LayerCache, ...]) -> list[_Flat]:
  return [{'key': cache.key, 'value': cache.value} for cache in caches]


def _on_host(weights: Mapping[str, Any]) -> _Flat:
  return {
    path: np.asarray(leaf, order='C')
    for path, leaf in fingerprints.flatten(weights).items()
  }


def _batch() -> Any:
  (batch,) = jax.export.symbolic_shape('batch')
  return batch


def _outputs(exported: jax.export.Exported) -> Any:
  return jax.tree.unflatten(exported.out_tree, exported.out_avals)


def _described(tree: Any) -> Any:
  """Shapes and types in JSON, in the tree's own form."""
  return jax.tree.map(
    lambda leaf: {
      'shape': list(map(_plain, leaf.shape)),
      'dtype': str(leaf.dtype),
    },
    tree,
  )


def _plain(size: Any) -> int | str:
  return size if isinstance(size, int) else str(size)
