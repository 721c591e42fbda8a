# SPDX-License-Identifier: Apache-2.0
"""What music was asked for: prompts with facts, and the files made from them.

A prompt file has a JSON object a line: `prompt`; `facts`, what the prompt states
(`families`, `tempo_bpm`, `meter`, …), if anything; `reference`, the clip whose
caption it is; and `file`, where music has been made from it. `musiclm generate`
leaves the same in its generate.json.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from musiclm_jax.checkpoints import text_file

GENERATED_JSON = 'generate.json'

_Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
  """One piece that is asked for.

  Attributes:
    text: In words.
    facts: What it states, by name.
    reference: The clip that it describes, by its name in its set, if there is
      one: what KLD compares the music with.
    file: Of the music, if there is any; relative to the folder it is in.
  """

  text: str
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  reference: str | None = None
  file: str | None = None

  def __post_init__(self):
    if not self.text.strip():
      raise ValueError(f'{self.text!r} is not a prompt; write some words.')


def read(path: _Path) -> list[Prompt]:
  """The prompts of a file, in order.

  Raises:
    ValueError: A line is no prompt: names it. Or there is none.
  """
  found = []
  lines = pathlib.Path(path).expanduser().read_text(encoding='utf-8')
  for number, line in enumerate(lines.splitlines(), start=1):
    if not line.strip():
      continue
    try:
      found.append(_prompt(json.loads(line)))
    except ValueError as error:
      raise ValueError(
        f'{path}, line {number}: {error} A line is an object like'
        ' {"prompt": "slow piano", "facts": {"tempo_bpm": 66}}.'
      ) from error
  if not found:
    raise ValueError(f'{path} has no prompts; write one a line.')
  return found


def write(path: _Path, prompts: Iterable[Prompt]) -> None:
  """Writes a prompt file, whole or not at all."""
  lines = (json.dumps(_fields(one), ensure_ascii=False) for one in prompts)
  text_file.write(
    pathlib.Path(path).expanduser(), ''.join(f'{line}\n' for line in lines)
  )


def of_folder(
  directory: _Path, *, prompt_file: _Path | None = None
) -> list[Prompt]:
  """The music of a folder and what it was asked to be.

  Args:
    directory: Of audio files.
    prompt_file: A line for each file; generate.json of the folder if left out,
      where pieces made without a text have no prompt and are passed over.

  Raises:
    ValueError: There is neither, or a file is missing, not named or named
      twice.
  """
  folder = pathlib.Path(directory).expanduser()
  generated = folder / GENERATED_JSON
  if prompt_file is not None:
    source, found = prompt_file, read(prompt_file)
  elif generated.exists():
    source = generated
    pieces = json.loads(generated.read_text())['pieces']
    found = [
      _prompt(piece) for piece in pieces if piece.get('prompt', '') is not None
    ]
  else:
    raise ValueError(
      f'{folder} has no {GENERATED_JSON}; say by --prompts FILE what each file'
      ' was asked to be, in lines of {"file": …, "prompt": …, "facts": …}.'
    )
  for prompt in found:
    if prompt.file is None or not (folder / prompt.file).is_file():
      raise ValueError(
        f'{source} tells of {prompt.text!r} with the file {prompt.file!r}, which'
        f' {folder} does not hold.'
      )
  counts = collections.Counter(prompt.file for prompt in found)
  if twice := [file for file, count in counts.items() if count > 1]:
    raise ValueError(
      f'{source} tells of {twice[0]!r} twice; leave one line for each file.'
    )
  return found


def having(prompts: Sequence[Prompt], fact: str) -> list[int]:
  """The numbers of those prompts that state a fact."""
  return [
    number
    for number, prompt in enumerate(prompts)
    if prompt.facts.get(fact) not in (None, [], {})
  ]


def _prompt(fields: Any) -> Prompt:
  """One line of a file, or a piece of generate.json."""
  kinds = {'prompt': str, 'facts': dict, 'reference': str, 'file': str}
  for name, kind in kinds.items():
    value = fields.get(name) if isinstance(fields, dict) else None
    wanted = name == 'prompt' or value is not None
    if wanted and not isinstance(value, kind):
      raise ValueError(f'{fields!r} has no {name!r} that is a {kind.__name__}.')
  return Prompt(
    text=fields['prompt'],
    facts=fields.get('facts') or {},
    reference=fields.get('reference'),
    file=fields.get('file'),
  )


def _fields(prompt: Prompt) -> dict[str, Any]:
  optional = {
    name: getattr(prompt, name) for name in ('facts', 'reference', 'file')
  }
  return {'prompt': prompt.text} | {k: v for k, v in optional.items() if v}
