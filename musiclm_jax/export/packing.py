# SPDX-License-Identifier: Apache-2.0
"""A model as one small folder, to be handed on: the demo model is one.

    music_lm.json  MODEL_CARD.md
    golden.safetensors     what it makes, to tell later that it still does
    codec/ semantic/ mulan/ stages/{semantic,coarse,fine}/    bundles

Bundles are copied as they are, in whatever precision they are stored. What only
a continuation needs, the semantic tokenizer and the codec's encoder, may be
left out.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from musiclm_jax.checkpoints import bundle, text_file
from musiclm_jax.export import folder as folders
from musiclm_jax.export import model_card
from musiclm_jax.inference import assembly as assemblies
from musiclm_jax.inference import demo, golden
from musiclm_jax.inference.music_lm import MusicLM

PROMPT = 'a slow waltz on solo piano'  # of the golden piece

_Path = str | os.PathLike[str]


def pack(
  model: _Path,
  output: _Path,
  *,
  max_bytes: int,
  continuation: bool = True,
  corpus: _Path | None = None,
  license: str = model_card.UNKNOWN_LICENSE,
  training: str | None = None,
) -> dict[str, int]:
  """Writes the folder, or nothing.

  Args:
    model: The folder of a `music_lm.json`, or 'demo'; the card tells of
      `evaluation/` and `corpus/` there.
    output: A folder that is not there yet.
    max_bytes: What all of it may take.
    continuation: Whether what only a continuation needs is kept.
    corpus: What it was trained on, for the card, if that lies elsewhere.
    license: Of the weights, for the card.
    training: How it was trained, in Markdown, for the card.

  Returns:
    Bytes by part, those of `music_lm.json`, card and golden file as 'others'.

  Raises:
    ValueError: It takes more, or the model cannot be read or taken apart.
  """
  model = demo.resolve(model)
  assembly = assemblies.read(model)
  with folders.staged(output) as directory:
    places = _copy(assembly, directory, continuation=continuation)
    sizes = {place: _num_bytes(directory / place) for place in places}
    _require_within(sizes, max_bytes, continuation=continuation)
    music_lm = MusicLM.load(directory, dtype='float32')
    prompt = None if music_lm.conditioner is None else PROMPT
    golden.write(directory / golden.FILE, golden.make(music_lm, prompt=prompt))
    bundles = {place: bundle.load(directory / place) for place in places}
    card = model_card.card(
      bundles,
      sheet=None,
      model=model,
      corpus=corpus,
      num_bytes=sizes,
      license=license,
      training=training,
    )
    text_file.write(directory / demo.CARD, card)
    sizes['others'] = _num_bytes(directory) - sum(sizes.values())
    _require_within(sizes, max_bytes, continuation=continuation)
  return sizes


def _copy(
  assembly: assemblies.Assembly,
  directory: pathlib.Path,
  *,
  continuation: bool,
) -> list[str]:
  """Copies the bundles and writes `music_lm.json`; their places."""
  tokenizers = assembly.tokenizers
  if not continuation:
    tokenizers.pop('semantic', None)
  for name, source in tokenizers.items():
    if name == 'codec' and not continuation:
      _publish_decoder(source, directory / name)
    else:
      _copy_bundle(source, directory / name)
  stages = {}
  for name, source in assembly.stages.items():
    stages[name] = directory / 'stages' / name
    _copy_bundle(source, stages[name])
  assemblies.write(
    directory,
    **{name: directory / name for name in tokenizers},
    stages=stages,
    sampling=assembly.sampling,
  )
  return [*tokenizers, *(f'stages/{name}' for name in stages)]


def _copy_bundle(source: pathlib.Path, directory: pathlib.Path) -> None:
  """The three files, without the names of this machine's folders."""
  directory.mkdir(parents=True)
  for name in (bundle.MODEL_JSON, bundle.WEIGHTS):
    shutil.copyfile(source / name, directory / name)
  text_file.write(directory / bundle.CONFIG_GIN, _config_gin(source))


def _publish_decoder(source: pathlib.Path, directory: pathlib.Path) -> None:
  """The codec without its encoder; it reads the same codes."""
  found = bundle.load(source, kind='codec')
  decoding_weights = getattr(found.config, 'decoding_weights', None)
  if decoding_weights is None:
    raise ValueError(
      f'{source} holds a {type(found.config).__name__}, which does not say what'
      ' decoding needs (`decoding_weights`); keep what continuation needs.'
    )
  bundle.publish(
    directory,
    dataclasses.replace(
      found,
      weights=_smaller(decoding_weights(found.weights), found.storage),
      derived_from=found.token_space,
    ),
    gin_config=_config_gin(source),
  )


def _smaller(
  weights: Mapping[str, Any], storage: str | None
) -> Mapping[str, Any]:
  """Codebooks in float16 too, if parameters are stored in fewer bytes.

  They choose no code here, where nothing is encoded.
  """
  if storage is None:
    return weights

  def half(leaf: np.ndarray) -> np.ndarray:
    largest = np.finfo(np.float16).max
    fits = leaf.dtype == np.float32 and np.abs(leaf).max() <= largest
    return leaf.astype(np.float16) if fits else leaf

  return {
    name: leaves if name == 'params' else jax.tree.map(half, leaves)
    for name, leaves in weights.items()
  }


def _config_gin(source: pathlib.Path) -> str:
  path = source / bundle.CONFIG_GIN
  return model_card.without_local_paths(path.read_text(encoding='utf-8'))


def _num_bytes(directory: pathlib.Path) -> int:
  files = (path for path in directory.rglob('*') if path.is_file())
  return sum(path.stat().st_size for path in files)


def _require_within(
  sizes: dict[str, int], max_bytes: int, *, continuation: bool
) -> None:
  if (total := sum(sizes.values())) > max_bytes:
    each = ', '.join(f'{place} {size:,}' for place, size in sizes.items())
    less = ' leave out what continuation needs,' if continuation else ''
    raise ValueError(
      f'The folder takes {total:,} bytes, more than {max_bytes:,}: {each}.'
      f' Store the bundles in fewer bits,{less} or allow more.'
    )
