# SPDX-License-Identifier: Apache-2.0
"""`music_lm.json`: which six bundles are one MusicLM, checked to fit.

Without "mulan" the five others are an AudioLM: its stages read no condition.
Without "semantic", the tokenizer, they make music all the same but cannot go on
from audio.

    {"format_version": 1, "codec": "codec", "semantic": "semantic",
     "mulan": "conditioner",
     "stages": {"semantic": "stages/semantic", "coarse": …, "fine": …},
     "sampling": …}

"sampling" is how the model wants to be sampled; see `settings`.
Paths are relative to the file's folder. Only `model.json` of each bundle is
read here, so what does not fit is told before any weights are.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from musiclm_jax.checkpoints import bundle, config_json, text_file
from musiclm_jax.inference import demo, settings
from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.stages.spec import STAGES
from musiclm_jax.streams import TokenStream, require_same_stream

MUSIC_LM_JSON = 'music_lm.json'
FORMAT_VERSION = 1

# What makes the codes that stages read and predict, and its kind of bundle.
TOKENIZERS = {'codec': 'codec', 'semantic': 'semantic', 'mulan': 'conditioner'}

_Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembly:
  """The folders of the bundles of one model, and how they are sampled.

  Attributes:
    codec: Makes and reads acoustic codes.
    semantic: Makes semantic codes of audio; None of a model that cannot go on
      from it.
    mulan: Makes the codes of texts and of clips; None of an AudioLM.
    stages: By name, those of `STAGES`.
    sampling: How the stages draw where nobody says otherwise.
  """

  codec: pathlib.Path
  semantic: pathlib.Path | None = None
  mulan: pathlib.Path | None = None
  stages: Mapping[str, pathlib.Path]
  sampling: SamplingConfig = SamplingConfig()

  @property
  def tokenizers(self) -> dict[str, pathlib.Path]:
    """Those of `TOKENIZERS` that there are."""
    folders = {name: getattr(self, name) for name in TOKENIZERS}
    return {name: path for name, path in folders.items() if path is not None}

  def fingerprints(self) -> dict[str, str]:
    """Of every bundle."""
    folders = dict(self.tokenizers)
    folders |= {f'stages/{name}': path for name, path in self.stages.items()}
    return {
      name: bundle.read_model_json(path)['fingerprint']
      for name, path in folders.items()
    }

  def check(self) -> None:
    """Raises unless the bundles fit together.

    Raises:
      ValueError: One is missing or of another kind, or a stage was trained on
        codes of another tokenizer: names both fingerprints and what to run. Or
        an AudioLM is to be guided.
    """
    if self.mulan is None and self.sampling.guidance_scale is not None:
      raise ValueError(
        'Guidance goes away from what the stages make without their condition,'
        ' and a model without a conditioner has none; leave it out.'
      )
    made = {}
    for name, folder in self.tokenizers.items():
      model = _model(folder, kind=TOKENIZERS[name])
      stream = TokenStream.from_json(model['stream_out'])
      made[stream.name] = folder, stream
    decoders = {}
    for name in STAGES:
      folder = self.stages[name]
      model = _model(folder, kind='stage')
      config = config_json.from_json(model['config'])
      if config.spec.name != name:
        raise ValueError(
          f'The stage {name!r} is wanted, but {folder} holds'
          f' {config.spec.name!r}.'
        )
      if name == 'semantic':
        # Of a model without the tokenizer, its stages say what they agree on.
        stream = config.spec.output.stream
        made.setdefault(stream.name, (folder, stream))
      for fields in model['streams_in']:
        _require_made(
          TokenStream.from_json(fields),
          made=made,
          stage=f'{name!r} in {folder}',
        )
      decoders[name] = StageDecoder(config=config, params=None)
    Cascade(**decoders)  # Says by itself whether they fit to each other.


def write(
  directory: _Path,
  *,
  codec: _Path,
  semantic: _Path | None = None,
  mulan: _Path | None = None,
  stages: Mapping[str, _Path],
  sampling: SamplingConfig = SamplingConfig(),  # noqa: B008
) -> Assembly:
  """Checks the bundles and writes the `music_lm.json` that names them.

  Args:
    directory: Where it is written; made if it is not there.
    codec: The codec's folder.
    semantic: The semantic tokenizer's; none for a model that is not to go on
      from audio.
    mulan: The conditioner's; none for an AudioLM.
    stages: Those of the stages, by name.
    sampling: How the model wants to be sampled.

  Raises:
    ValueError: They do not fit together; nothing is written.
  """
  assembly = Assembly(
    codec=pathlib.Path(codec),
    semantic=None if semantic is None else pathlib.Path(semantic),
    mulan=None if mulan is None else pathlib.Path(mulan),
    stages=_named({name: pathlib.Path(path) for name, path in stages.items()}),
    sampling=sampling,
  )
  assembly.check()
  directory = pathlib.Path(directory)

  def relative(path: pathlib.Path) -> str:
    # Absolute first: a link to a folder leads elsewhere than its own `..`.
    return pathlib.PurePath(
      os.path.relpath(path.resolve(), directory.resolve())
    ).as_posix()

  fields = {
    'format_version': FORMAT_VERSION,
    **{name: relative(path) for name, path in assembly.tokenizers.items()},
    'stages': {name: relative(assembly.stages[name]) for name in STAGES},
    **settings.to_fields(sampling),
  }
  directory.mkdir(parents=True, exist_ok=True)
  text_file.write(
    directory / MUSIC_LM_JSON, json.dumps(fields, indent=2) + '\n'
  )
  return assembly


def read(directory: _Path) -> Assembly:
  """The model in `directory`, checked; the demo model if that is 'demo'.

  Raises:
    ValueError: There is none, or its bundles do not fit together.
  """
  path = demo.resolve(directory) / MUSIC_LM_JSON
  try:
    fields = json.loads(path.read_text())
  except FileNotFoundError as error:
    raise ValueError(
      f'{path.parent} holds no {MUSIC_LM_JSON}; write one over trained bundles'
      ' with `musiclm assemble`.'
    ) from error
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(
      f'{path} is not JSON ({error}); write it with `musiclm assemble`.'
    ) from error
  assembly = _of_json(fields, path=path)
  assembly.check()
  return assembly


def _of_json(fields: Any, *, path: pathlib.Path) -> Assembly:
  version = fields.get('format_version') if isinstance(fields, dict) else None
  if version != FORMAT_VERSION:
    raise ValueError(
      f'{path} has format version {version}; this program reads'
      f' {FORMAT_VERSION}. Write it anew with `musiclm assemble`.'
    )
  try:
    return Assembly(
      **{
        name: path.parent / fields[name]
        for name in TOKENIZERS
        if name in fields or name == 'codec'
      },
      stages=_named(
        {name: path.parent / part for name, part in fields['stages'].items()}
      ),
      sampling=settings.of_fields(fields, path=path),
    )
  except KeyError as error:
    raise ValueError(
      f'{path} has no {error}; write it anew with `musiclm assemble`.'
    ) from error


def _require_made(
  wanted: TokenStream,
  *,
  made: Mapping[str, tuple[pathlib.Path, TokenStream]],
  stage: str,
) -> None:
  """Raises unless what a stage reads is what a tokenizer makes."""
  if wanted.name not in made:
    raise ValueError(
      f'Stage {stage} reads codes of {wanted.name!r}, but the tokenizers make'
      f' {sorted(made)}; give a stage that was trained on these.'
    )
  folder, stream = made[wanted.name]
  require_same_stream(
    wanted=wanted,
    got=stream,
    remedy=f'Stage {stage} was trained on codes of another model than {folder}:'
    ' give the model that it was trained on, or run `musiclm tokenize` with'
    f' {folder} and train the stage again.',
  )


def _named(stages: Mapping[str, pathlib.Path]) -> dict[str, pathlib.Path]:
  if set(stages) != set(STAGES):
    raise ValueError(
      f'A model has the stages {", ".join(STAGES)}; got {sorted(stages)}.'
    )
  return dict(stages)


def _model(folder: pathlib.Path, *, kind: str) -> dict[str, Any]:
  """`model.json` of a bundle of `kind`."""
  model = bundle.read_model_json(folder)
  if model['kind'] != kind:
    raise ValueError(
      f'A bundle of kind {kind!r} is wanted, but {folder} holds a'
      f' {model["kind"]!r}.'
    )
  return model
