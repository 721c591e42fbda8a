# SPDX-License-Identifier: Apache-2.0
"""MusicLM and its family, complete and trainable, in JAX.

Importing this package imports nothing else: a name below is looked up when it
is first used, so neither JAX nor any other library is loaded before it is
needed. Every package lists its own names; `musiclm --help` lists the verbs.
"""

import importlib
from typing import Any

_HOMES = {
  'MusicLM': 'musiclm_jax.inference.music_lm',
  'SoundStreamConfig': 'musiclm_jax.codec.soundstream',
  'StageSpec': 'musiclm_jax.stages.spec',
  'TokenStream': 'musiclm_jax.streams',
  'load_codec': 'musiclm_jax.codec.base',
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
  return __all__
