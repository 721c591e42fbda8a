# SPDX-License-Identifier: Apache-2.0
"""An exported MusicLM for those who have transformers.

  model = AutoModel.from_pretrained(folder, trust_remote_code=True)
  waveform = model.generate(['a slow waltz on solo piano'], seconds=10, seed=1)

It only wraps the package `modeling_musiclm` of the same folder or repository,
which needs torch and safetensors alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pathlib
import sys
from typing import Any

import torch
import transformers

# Of `from_pretrained`; where a repository is copied from.
_HUB_OPTIONS = (
  'cache_dir',
  'force_download',
  'local_files_only',
  'revision',
  'token',
)
# What AutoModel hands on unasked.
_FROM_AUTO_MODEL = (
  '_commit_hash',
  '_from_auto',
  'adapter_kwargs',
  'trust_remote_code',
)


class MusicLMConfig(transformers.PretrainedConfig):
  """What the folder's `config.json` says; sizes are in those of its parts."""

  model_type = 'musiclm'


class MusicLMModel(transformers.PreTrainedModel):
  """TEXT → MUSIC; make one with `from_pretrained`.

  Attributes:
    music_lm: The `MusicLM` of `modeling_musiclm`.
  """

  config_class = MusicLMConfig
  base_model_prefix = 'music_lm'

  def __init__(self, config: MusicLMConfig, music_lm: torch.nn.Module):
    super().__init__(config)
    self.music_lm = music_lm

  @classmethod
  def from_pretrained(
    cls,
    pretrained_model_name_or_path: str | os.PathLike[str],
    *,
    config: MusicLMConfig | None = None,
    dtype: torch.dtype | str | None = None,
    torch_dtype: torch.dtype | str | None = None,
    device_map: torch.device | str | None = None,
    **options: Any,
  ) -> MusicLMModel:
    """The model of an exported folder, or of a repository on the hub.

    Args:
      pretrained_model_name_or_path: Either.
      config: Read from there if left out.
      dtype: Of the stages, or its name; float32 if left out or 'auto'.
      torch_dtype: Its older name.
      device_map: One device for all of it; the CPU if left out.
      **options: Where on the hub, and in which cache.

    Raises:
      TypeError: An option is not known.
    """
    unknown = options.keys() - {*_HUB_OPTIONS, *_FROM_AUTO_MODEL}
    if unknown:
      raise TypeError(
        f'A MusicLM takes no {", ".join(sorted(unknown))}; it takes dtype,'
        f' device_map, {", ".join(_HUB_OPTIONS)}.'
      )
    hub = {k: options[k] for k in _HUB_OPTIONS if k in options}
    folder = pathlib.Path(pretrained_model_name_or_path)
    if not folder.is_dir():
      import huggingface_hub

      folder = pathlib.Path(
        huggingface_hub.snapshot_download(str(folder), **hub)
      )
    if config is None:
      config = MusicLMConfig.from_pretrained(folder)
    music_lm = _package(folder).MusicLM.from_pretrained(
      folder, device=device_map, dtype=_dtype(dtype or torch_dtype)
    )
    return cls(config, music_lm).eval()

  @property
  def sample_rate_hz(self) -> int:
    """Of what is made."""
    return self.music_lm.sample_rate_hz

  def forward(self, *args: Any, **options: Any) -> Any:
    """As `generate`."""
    return self.generate(*args, **options)

  def generate(self, *args: Any, **options: Any) -> Any:
    """Makes music; see `modeling_musiclm.MusicLM.generate`."""
    return self.music_lm.generate(*args, **options)

  def save_pretrained(self, *args: Any, **options: Any) -> None:
    """Refuses: one file of weights is not what such a folder holds."""
    raise NotImplementedError(
      'Save the `state_dict()` of a part of `music_lm` (codec, semantic, mulan,'
      ' stages) as the model.safetensors of its folder instead.'
    )


def _dtype(given: torch.dtype | str | None) -> torch.dtype | None:
  """By the names that transformers take."""
  if given is None or given == 'auto':
    return None
  return getattr(torch, given) if isinstance(given, str) else given


def _package(folder: pathlib.Path) -> Any:
  """The folder's own `modeling_musiclm`, whatever others are imported."""
  path = folder.resolve() / 'modeling_musiclm' / '__init__.py'
  name = f'modeling_musiclm_{hashlib.sha256(bytes(path)).hexdigest()[:16]}'
  if name not in sys.modules:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Its own imports are relative to it.
    try:
      spec.loader.exec_module(module)
    except BaseException:
      del sys.modules[name]
      raise
  return sys.modules[name]
