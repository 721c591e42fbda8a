# SPDX-License-Identifier: Apache-2.0
"""A copy of a model, or of one bundle, that takes fewer bytes on disk.

Ours: what makes codes (codec, semantic tokenizer, conditioner) is stored as
float16 even where int8 is asked for, since another code is an error that no
stage can mend. A copy keeps the token space of its original: stages and corpora
go on fitting.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

from musiclm_jax.checkpoints import bundle, storage
from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.inference import assembly as assemblies
from musiclm_jax.inference import demo

_Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compressed:
  """What became of one bundle.

  Attributes:
    name: Its folder in the copy; of a bundle alone, its kind.
    storage: How its parameters are stored.
    bytes_before: Of its weights on disk.
    bytes_after: Likewise, of the copy's.
    relative_error: Of the parameters, root mean square.
  """

  name: str
  storage: str
  bytes_before: int
  bytes_after: int
  relative_error: float


def compress(
  model: _Path, output: pathlib.Path, *, dtype: str
) -> list[Compressed]:
  """Writes the copy.

  Args:
    model: The folder of a `music_lm.json`, or of one bundle.
    output: A folder that is empty or not there.
    dtype: One of `storage.STORAGES`.

  Raises:
    ValueError: The model cannot be read, or a weight cannot be stored so.
  """
  model = demo.resolve(model)
  if not (model / assemblies.MUSIC_LM_JSON).exists():
    return [_compress(model, output, name='', dtype=dtype)]
  assembly = assemblies.read(model)
  stages = {name: f'stages/{name}' for name in assembly.stages}
  places = assembly.tokenizers | {
    stages[name]: folder for name, folder in assembly.stages.items()
  }
  made = [
    _compress(folder, output / place, name=place, dtype=dtype)
    for place, folder in places.items()
  ]
  assemblies.write(
    output,
    **{name: output / name for name in assembly.tokenizers},
    stages={name: output / place for name, place in stages.items()},
    sampling=assembly.sampling,
  )
  return made


def _compress(
  folder: pathlib.Path, output: pathlib.Path, *, name: str, dtype: str
) -> Compressed:
  found = bundle.load(folder)
  kept = dtype if found.kind == 'stage' else 'float16'
  contents = dataclasses.replace(
    found, derived_from=found.token_space, storage=kept
  )
  gin_config = folder / bundle.CONFIG_GIN
  bundle.publish(
    output,
    contents,
    gin_config=gin_config.read_text() if gin_config.exists() else '',
  )
  return Compressed(
    name=name or found.kind,
    storage=kept,
    bytes_before=(folder / bundle.WEIGHTS).stat().st_size,
    bytes_after=(output / bundle.WEIGHTS).stat().st_size,
    relative_error=storage.relative_error(
      fingerprints.flatten(found.weights),
      fingerprints.flatten(bundle.load(output).weights),
    ),
  )
