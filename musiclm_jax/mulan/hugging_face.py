# SPDX-License-Identifier: Apache-2.0
"""BERT weights that others have published, read from a local folder.

The folder holds what Hugging Face's `save_pretrained` writes: `config.json`,
`model.safetensors`, and `vocab.txt` or `tokenizer.json`. Every name in the file
must be known, and every parameter must be found: a BERT that half loads would
train, only worse. What serves other tasks (the pooler, heads) is left out by
name. Nothing is downloaded and nothing of PyTorch is needed.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from musiclm_jax.checkpoints import bundle
from musiclm_jax.mulan import bert, encoder, wordpiece

Tensors = dict[str, np.ndarray]

# Of BertModel and BertForPreTraining, which this tower has no use for.
_UNUSED = re.compile(r'(pooler|cls)\.|embeddings\.position_ids$')

_NORM = {'weight': 'scale', 'bias': 'bias'}
_OLD_NORM = {'gamma': 'weight', 'beta': 'bias'}

# The sublayers of a layer, theirs and ours; attention's three inputs are apart.
_LINEAR = {
  'attention.output.dense': ('attention', 'out'),
  'intermediate.dense': ('feedforward', 'wide'),
  'output.dense': ('feedforward', 'narrow'),
}
_NORMS = {
  'attention.output.LayerNorm': 'attention_norm',
  'output.LayerNorm': 'feedforward_norm',
}
_INPUTS = tuple(f'attention.self.{name}' for name in ('query', 'key', 'value'))


def read_config(
  directory: str | os.PathLike[str], **changes: Any
) -> bert.BertConfig:
  """Sizes of the BERT in `directory`.

  Args:
    directory: The folder.
    **changes: Fields of its `EncoderConfig` to set otherwise, such as `remat`.
  """
  fields = _read_json(pathlib.Path(directory) / 'config.json')
  wanted = {
    'model_type': 'bert',
    'hidden_act': 'gelu',
    'position_embedding_type': 'absolute',
  }
  for name, value in wanted.items():
    if fields.get(name, value) != value:
      raise ValueError(
        f'{directory} has {name} {fields[name]!r}; only {value!r} can be read.'
      )
  sizes = {
    'num_layers': fields['num_hidden_layers'],
    'num_heads': fields['num_attention_heads'],
    'embed_dim': fields['hidden_size'],
    'mlp_dim': fields['intermediate_size'],
    'norm': 'after',
    'norm_epsilon': fields['layer_norm_eps'],
    'dropout_rate': fields['hidden_dropout_prob'],
  }
  return bert.BertConfig(
    encoder=encoder.EncoderConfig(**sizes | changes),
    max_tokens=fields['max_position_embeddings'],
  )


def read_vocabulary(directory: str | os.PathLike[str]) -> wordpiece.WordPiece:
  """The WordPiece vocabulary in `directory`."""
  folder = pathlib.Path(directory)
  tokenizer = folder / 'tokenizer.json'
  if tokenizer.exists():
    fields = _read_json(tokenizer)
    if fields['model'].get('type') != 'WordPiece':
      raise ValueError(
        f'{tokenizer} is a {fields["model"].get("type")!r}; a BERT wants'
        " 'WordPiece'."
      )
    ids = fields['model']['vocab']
    tokens = sorted(ids, key=ids.__getitem__)
    lowercase = (fields.get('normalizer') or {}).get('lowercase', True)
    return wordpiece.WordPiece(tokens=tuple(tokens), lowercase=lowercase)
  path = folder / 'vocab.txt'
  if not path.exists():
    raise ValueError(f'{folder} has neither tokenizer.json nor vocab.txt.')
  settings = folder / 'tokenizer_config.json'
  fields = _read_json(settings) if settings.exists() else {}
  return wordpiece.WordPiece(
    tokens=tuple(path.read_text(encoding='utf-8').rstrip('\n').split('\n')),
    lowercase=fields.get('do_lower_case', True),
  )


def read_params(directory: str | os.PathLike[str]) -> dict[str, Any]:
  """The parameters of `bert.Bert`, with one entry a layer.

  Raises:
    ValueError: Names that are missing or unknown, or a shape that is wrong.
  """
  config = read_config(directory)
  path = pathlib.Path(directory) / 'model.safetensors'
  try:
    tensors = safetensors.numpy.load_file(path)
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(f'{path} cannot be read: {error}.') from error
  tensors = dict(map(_plain, tensors.items()))
  used = {name: t for name, t in tensors.items() if not _UNUSED.match(name)}
  wanted = dict(tensor_shapes(config, num_ids=_num_ids(used)))
  missing = sorted(set(wanted) - set(used))
  unknown = sorted(set(used) - set(wanted))
  if missing or unknown:
    raise ValueError(
      f'{path} is not the BERT of its config.json: it lacks {missing or "none"}'
      f' and has {unknown or "none"} besides.'
    )
  for name, shape in wanted.items():
    if used[name].shape != shape:
      raise ValueError(
        f'{path}: {name} is {used[name].shape}, and config.json says {shape}.'
      )
  return _to_ours(used, config=config)


def publish(
  directory: str | os.PathLike[str], *, bundle_dir: str | os.PathLike[str]
) -> str:
  """Makes a bundle of these weights, for the warm start of a run; its folder.

  Its paths are those of MuLan's text tower without `scan_layers`.
  """
  bundle.publish(
    bundle_dir,
    bundle.BundleContents(
      kind='bert',
      config=read_config(directory),
      weights={'params': {'text': {'bert': read_params(directory)}}},
      stream_out=None,
    ),
  )
  return os.fspath(bundle_dir)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except (OSError, json.JSONDecodeError) as error:
    raise ValueError(
      f'{path} cannot be read ({error}); give a folder that holds config.json,'
      ' model.safetensors, and tokenizer.json or vocab.txt.'
    ) from error


def _plain(item: tuple[str, np.ndarray]) -> tuple[str, np.ndarray]:
  """Without the prefix that a BERT inside a larger model has."""
  name, tensor = item
  name = name.removeprefix('bert.')
  stem, dot, last = name.rpartition('.')
  return f'{stem}{dot}{_OLD_NORM.get(last, last)}', tensor


def _num_ids(tensors: Tensors) -> int:
  words = tensors.get('embeddings.word_embeddings.weight')
  return 0 if words is None else len(words)


def tensor_shapes(
  config: bert.BertConfig, *, num_ids: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
  """Every tensor that a BERT of this config has, with its shape."""
  body = config.encoder
  width = body.embed_dim
  for table, rows in (
    ('word', num_ids),
    ('position', config.max_tokens),
    ('token_type', bert.NUM_SEGMENTS),
  ):
    yield f'embeddings.{table}_embeddings.weight', (rows, width)
  for suffix in _NORM:
    yield f'embeddings.LayerNorm.{suffix}', (width,)
  outputs = {'intermediate.dense': body.mlp_dim}
  inputs = {'output.dense': body.mlp_dim}
  for index in range(body.num_layers):
    prefix = f'encoder.layer.{index}.'
    for name in (*_INPUTS, *_LINEAR):
      rows = outputs.get(name, width)
      yield f'{prefix}{name}.weight', (rows, inputs.get(name, width))
      yield f'{prefix}{name}.bias', (rows,)
    for name in _NORMS:
      for suffix in _NORM:
        yield f'{prefix}{name}.{suffix}', (width,)


def _to_ours(tensors: Tensors, *, config: bert.BertConfig) -> dict[str, Any]:
  tables = {'words': 'word', 'positions': 'position', 'segments': 'token_type'}
  return {
    **{
      ours: tensors[f'embeddings.{theirs}_embeddings.weight']
      for ours, theirs in tables.items()
    },
    'norm': _norm(tensors, 'embeddings.LayerNorm'),
    'encoder': {
      f'layer_{index}': _layer(
        tensors, f'encoder.layer.{index}.', config=config.encoder
      )
      for index in range(config.encoder.num_layers)
    },
  }


def _norm(tensors: Tensors, name: str) -> Tensors:
  return {ours: tensors[f'{name}.{theirs}'] for theirs, ours in _NORM.items()}


def _layer(
  tensors: Tensors, prefix: str, *, config: encoder.EncoderConfig
) -> dict[str, Any]:
  """One layer; kernels are [*features, *inputs] in both."""
  heads = (config.num_heads, config.embed_dim // config.num_heads)
  shapes = {
    'out': (config.embed_dim, *heads),
    'wide': (1, config.mlp_dim, config.embed_dim),
    'narrow': (config.embed_dim, config.mlp_dim),
  }
  stacked = {
    suffix: np.stack([tensors[f'{prefix}{name}.{suffix}'] for name in _INPUTS])
    for suffix in ('weight', 'bias')
  }
  layer: dict[str, Any] = {
    'attention': {
      'query_key_value': {
        'kernel': stacked['weight'].reshape(3, *heads, config.embed_dim),
        'bias': stacked['bias'].reshape(3, *heads),
      }
    },
    'feedforward': {},
  }
  for theirs, (group, ours) in _LINEAR.items():
    bias = tensors[f'{prefix}{theirs}.bias']
    layer[group][ours] = {
      'kernel': tensors[f'{prefix}{theirs}.weight'].reshape(shapes[ours]),
      'bias': bias[None] if ours == 'wide' else bias,
    }
  for theirs, ours in _NORMS.items():
    layer[ours] = _norm(tensors, prefix + theirs)
  return layer
