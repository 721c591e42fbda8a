# SPDX-License-Identifier: Apache-2.0
"""CLAP as LAION trained it, as the folder that `transformers` reads.

Large-scale contrastive language-audio pretraining (Wu et al., 2023): HTS-AT for
audio, RoBERTa for texts, and after each a projection of two layers. LAION's
checkpoints are state dicts of its own code, `laion_clap`; every name in one is
renamed, known to be without use here, or an error, and so is every name that is
not there. No value is changed. What a state dict does not tell is as it is in
all of LAION's models: windows of 10 s at 48 kHz, a hop of 480 samples, texts of
77 tokens, heads of 64 values and RoBERTa's own epsilon in the texts' network.

Shapes: bins x mels of a filter bank.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from musiclm_jax.export import folder, state_dicts

README = 'README.md'

_BRANCHES = {
  'audio_branch.': 'audio_model.audio_encoder.',
  'text_branch.': 'text_model.',
  'audio_projection.0.': 'audio_projection.linear1.',
  'audio_projection.2.': 'audio_projection.linear2.',
  'text_projection.0.': 'text_projection.linear1.',
  'text_projection.2.': 'text_projection.linear2.',
}
_AUDIO = _BRANCHES['audio_branch.']
# Within the audio branch, in this order.
_PARTS = {
  'bn0.': 'batch_norm.',
  'norm1.': 'layernorm_before.',
  'norm2.': 'layernorm_after.',
  'attn.proj.': 'attention.output.dense.',
  'attn.': 'attention.self.',
  'mlp.fc1.': 'intermediate.dense.',
  'mlp.fc2.': 'output.dense.',
}
_UNUSED = re.compile(
  # Networks of the training loss, and AudioSet's classes.
  r'(audio|text)_transform\.sequential\.\d+\.(weight|bias)'
  r'|audio_branch\.(tscam_conv|head)\.(weight|bias)'
  # What follows from the sizes.
  r'|audio_branch\.layers\.\d+\.blocks\.\d+\.attn_mask'
  r'|audio_branch\.spectrogram_extractor\.stft\.conv_(real|imag)\.weight'
)
_FILTERS = 'audio_branch.logmel_extractor.melW'
# Of texts; PyTorch keeps these counts in some versions of RoBERTa only.
_COUNTS = (
  'text_model.embeddings.position_ids',
  'text_model.embeddings.token_type_ids',
)
_TOKENIZER_FILES = 'vocab.json', 'merges.txt'

_HEAD_DIM = 64
_TEXT_EPSILON = 1e-5  # `transformers` has another for CLAP.
_TEXT_TOKENS = 77
_FRONT_END = {
  'feature_size': 64,
  'sampling_rate': 48_000,
  'hop_length': 480,
  'max_length_s': 10,
  'fft_window_size': 1024,
  'frequency_min': 50,
  'frequency_max': 14_000,
}

Weights = Mapping[str, np.ndarray]
_Path = str | os.PathLike[str]


def convert(checkpoint: _Path, output: _Path, *, tokenizer: _Path) -> str:
  """Writes a folder of ClapModel and ClapProcessor.

  Args:
    checkpoint: What LAION published, a .pt; nothing in it is run.
    output: A folder that is not there yet.
    tokenizer: A folder with RoBERTa's vocab.json and merges.txt.

  Returns:
    The SHA-256 of the checkpoint.

  Raises:
    ValueError: It is no CLAP of HTS-AT and RoBERTa, or its sounds are heard
      otherwise, or the tokenizer is not its own. Nothing is written.
  """
  checkpoint = pathlib.Path(checkpoint).expanduser()
  tokenizer = pathlib.Path(tokenizer).expanduser()
  if not checkpoint.is_file():
    raise ValueError(f'{checkpoint} is no file; name a checkpoint of LAION.')
  library = _transformers()
  with folder.staged(output) as directory:
    state = state_dicts.read(checkpoint)
    # As it was trained on several devices.
    state = {name.removeprefix('module.'): a for name, a in state.items()}
    model = _model(rename(state), checkpoint=checkpoint, library=library)
    is_fused = model.config.audio_config.enable_fusion
    extractor = library.ClapFeatureExtractor(
      truncation='fusion' if is_fused else 'rand_trunc', **_FRONT_END
    )
    _require_filters(extractor, state, checkpoint=checkpoint)
    num_words = model.config.text_config.vocab_size
    words = _tokenizer(tokenizer, num_words=num_words, library=library)
    processor = library.ClapProcessor(
      feature_extractor=extractor, tokenizer=words
    )
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    sha256 = _sha256(checkpoint)
    (directory / README).write_text(
      _readme(checkpoint, sha256=sha256, tokenizer=tokenizer)
    )
    # safetensors makes its file for the owner alone.
    shutil.copymode(directory / README, directory / 'model.safetensors')
  return sha256


def rename(state: Weights) -> dict[str, np.ndarray]:
  """By the names of `transformers`, without what it has no use for."""
  weights = {}
  for name, array in state.items():
    if name == _FILTERS or _UNUSED.fullmatch(name):
      continue
    for old, new in _BRANCHES.items():
      if name.startswith(old):
        name = new + name.removeprefix(old)
    if name.startswith(_AUDIO):
      for old, new in _PARTS.items():
        name = re.sub(rf'(?<=\.){re.escape(old)}', new, name)
    if '.self.qkv.' in name:
      parts = np.split(array, 3)
      for part, third in zip(('query', 'key', 'value'), parts, strict=True):
        weights[name.replace('qkv', part)] = third
    else:
      weights[name] = array
  return weights


def sizes(weights: Weights) -> dict[str, Any]:
  """The fields of a ClapConfig, from the shapes of renamed weights.

  Raises:
    KeyError: A name that tells one is not there.
  """
  words, embed_dim = weights[
    'text_model.embeddings.word_embeddings.weight'
  ].shape
  layer = 'text_model.encoder.layer.{}.intermediate.dense.bias'
  heads = (
    _AUDIO + 'layers.{}.blocks.0.attention.self.relative_position_bias_table'
  )
  depths = []
  block = 'blocks.{}.layernorm_before.bias'
  while depth := _count(weights, f'{_AUDIO}layers.{len(depths)}.{block}'):
    depths.append(depth)
  projection = weights['audio_projection.linear1.weight']
  text = 'text_model.embeddings.position_embeddings.weight'
  is_fused = f'{_AUDIO}patch_embed.mel_conv2d.weight' in weights
  return {
    'projection_dim': len(projection),
    'text_config': {
      'vocab_size': words,
      'hidden_size': embed_dim,
      'num_hidden_layers': _count(weights, layer),
      'num_attention_heads': embed_dim // _HEAD_DIM,
      'intermediate_size': weights[layer.format(0)].size,
      'max_position_embeddings': len(weights[text]),
      'layer_norm_eps': _TEXT_EPSILON,
    },
    'audio_config': {
      'patch_embeds_hidden_size': len(
        weights[f'{_AUDIO}patch_embed.proj.weight']
      ),
      'hidden_size': projection.shape[1],
      'depths': depths,
      'num_attention_heads': [
        weights[heads.format(stage)].shape[1] for stage in range(len(depths))
      ],
      'num_hidden_layers': len(depths),
      'enable_fusion': is_fused,
      'fusion_type': 'aff_2d' if is_fused else None,
    },
  }


def _count(weights: Weights, name: str) -> int:
  """How many layers have the name, from 0 on."""
  number = 0
  while name.format(number) in weights:
    number += 1
  return number


def _model(
  weights: Weights, *, checkpoint: pathlib.Path, library: Any
) -> torch.nn.Module:
  """With every weight of the checkpoint, and no other."""
  try:
    config = library.ClapConfig(**sizes(weights))
  except KeyError as error:
    raise ValueError(f'{_no_clap(checkpoint)} It has no {error}.') from error
  model = library.ClapModel(config)
  wanted = model.state_dict()
  given = {name: wanted[name] for name in _COUNTS}
  given |= {name: torch.from_numpy(a) for name, a in weights.items()}
  problems = [
    f'{about} {name!r} and {len(names) - 1} more.'
    for about, names in (
      ('It lacks', wanted.keys() - given.keys()),
      ('It has an unknown', given.keys() - wanted.keys()),
      (
        'Of another shape is',
        {
          name
          for name in wanted.keys() & given.keys()
          if wanted[name].shape != given[name].shape
        },
      ),
    )
    for name in sorted(names)[:1]
  ]
  if problems:
    raise ValueError(' '.join([_no_clap(checkpoint), *problems]))
  model.load_state_dict(given)
  return model


def _require_filters(
  extractor: Any, state: Weights, *, checkpoint: pathlib.Path
) -> None:
  """Raises unless audio is heard as it was in training."""
  filters = state.get(_FILTERS)
  ours = extractor.mel_filters_slaney
  if (
    filters is None
    or filters.shape != ours.shape
    or np.abs(filters - ours).max() > 1e-4 * ours.max()
  ):
    raise ValueError(
      f'{checkpoint} has another filter bank in {_FILTERS!r} than 64 mels from'
      ' 50 Hz to 14 kHz of 1,024 samples at 48 kHz; its audio would be heard'
      ' wrongly. Use HTSAT-tiny, -base or -large.'
    )


def _tokenizer(path: pathlib.Path, *, num_words: int, library: Any) -> Any:
  missing = [name for name in _TOKENIZER_FILES if not (path / name).is_file()]
  if missing:
    raise ValueError(
      f"{path} has no {' and no '.join(missing)}; give the folder of RoBERTa's"
      ' tokenizer (roberta-base), which the checkpoint does not hold.'
    )
  tokenizer = library.RobertaTokenizer.from_pretrained(
    path, local_files_only=True, model_max_length=_TEXT_TOKENS
  )
  if len(tokenizer) != num_words:
    raise ValueError(
      f'The tokenizer of {path} has {len(tokenizer)} words, and the checkpoint'
      f' {num_words}; give that of roberta-base.'
    )
  return tokenizer


def _no_clap(checkpoint: pathlib.Path) -> str:
  return (
    f'{checkpoint} is no CLAP of HTS-AT and RoBERTa in the layout of'
    ' laion_clap; give a checkpoint that LAION published.'
  )


def _readme(
  checkpoint: pathlib.Path, *, sha256: str, tokenizer: pathlib.Path
) -> str:
  files = {checkpoint.name: sha256}
  files |= {name: _sha256(tokenizer / name) for name in _TOKENIZER_FILES}
  rows = ''.join(f'| `{name}` | `{value}` |\n' for name, value in files.items())
  return (
    '# CLAP\n\nConverted by musiclm_jax; names and layouts are those of'
    ' `transformers`, and no value was changed.\n\n'
    f'| from | SHA-256 |\n| --- | --- |\n{rows}\n'
    'None of these files states its licence: that under which its publisher'
    ' offers it holds for this folder too.\n'
  )


def _transformers() -> Any:
  try:
    import transformers
  except ImportError as error:
    raise ValueError(
      "CLAP wants transformers: pip install 'musiclm_jax[hub]'."
    ) from error
  return transformers


def _sha256(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
