# SPDX-License-Identifier: Apache-2.0
"""The model card of an exported or packed folder, as hubs read it.

It says what can be read beside the model: sizes, corpus, parity, evaluation.
What nobody wrote down, such as the licence of the weights, it asks for in so
many words rather than guess.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
from collections.abc import Mapping

from musiclm_jax.checkpoints.bundle import Bundle
from musiclm_jax.export.parity import Sheet

# Of an absolute path all but its name; not of an address or a fraction.
_LOCAL = re.compile(r"(?<![\w:/.<])~?/(?:[^\s/`'\"|,;()<>]+/)+")

# As hubs call a licence that is not stated.
UNKNOWN_LICENSE = 'unknown'

_EXPORTED = """# MusicLM, exported to PyTorch

Text to music: MuLan's codes of a text, then three autoregressive stages
(semantic, coarse and fine acoustic codes), then a SoundStream decoder, after
"MusicLM: Generating Music From Text" (Agostinelli et al., 2023). Trained with
JAX; this folder needs neither JAX nor the package that it was trained with.

```python
from modeling_musiclm import MusicLM  # `pip install -r requirements.txt`

model = MusicLM.from_pretrained('.')
waveform = model.generate(['a slow waltz on solo piano'], seconds=10, seed=1)
```

With transformers: `AutoModel.from_pretrained(folder, trust_remote_code=True)`.
As a server: `pip install -r requirements-serve.txt`, then `python serve.py`.
"""
_PACKED = """# A small MusicLM

Text to music: MuLan's codes of a text, then three autoregressive stages
(semantic, coarse and fine acoustic codes), then a SoundStream decoder, after
"MusicLM: Generating Music From Text" (Agostinelli et al., 2023).

```python
from musiclm_jax import MusicLM

model = MusicLM.load('.')  # this folder
waveform = model.generate('a slow waltz on solo piano', seconds=10, seed=1)
```
"""
_CARD = """---
license: {license}
library_name: {library}
pipeline_tag: text-to-audio
tags:
- music
- text-to-music
- musiclm
---

{head}
## What it is

{sizes}

## Licence

Code: Apache-2.0. Weights: {weights_license}.

## Training

{training}

## Data

{data}

## Use and limits

For research on music generation, and for sketches that a person listens to
before others do. It knows the kinds of music in its data and no others; words
beyond them are heard as something near, without an error. It makes no speech
and no lyrics. It can repeat what it was trained on: compare with the data
before you publish what it makes, and say that a machine made it. Music of some
cultures is better covered than that of others.
{parity}
## Evaluation

{evaluation}
"""

_PARITY = """
## Parity with JAX

Compared on {clips}; `PARITY.md` has every layer.

{table}
"""

_ASK_LICENSE = (
  'not stated. Whoever hands them on has to state it, with `--license`'
)
_ASK_TRAINING = (
  'Not stated. Say here how, for how long and on what hardware it was trained.'
)
_ASK_DATA = (
  'Not stated, and no corpus lay beside the model. Say here what it was trained'
  ' on, and under which licence, before you hand it on.'
)
_NO_REPORTS = 'No report lay in `evaluation/` beside the model.'


def card(
  bundles: Mapping[str, Bundle],
  *,
  sheet: Sheet | None,
  model: str | os.PathLike[str],
  corpus: str | os.PathLike[str] | None = None,
  num_bytes: Mapping[str, int] | None = None,
  license: str = UNKNOWN_LICENSE,
  training: str | None = None,
) -> str:
  """The card, in Markdown with a front matter.

  Args:
    bundles: What is handed on, by its place.
    sheet: How far PyTorch is from JAX; None of a folder for JAX.
    model: The folder of `music_lm.json`, where `evaluation/` and `corpus/` may
      lie too.
    corpus: What it was trained on, if that lies elsewhere.
    num_bytes: Of each part on disk, for a folder that is small.
    license: Of the weights, by the hub's name for it.
    training: How it was trained, in Markdown.
  """
  model = pathlib.Path(model)
  return _CARD.format(
    library='musiclm_jax' if sheet is None else 'pytorch',
    head=_PACKED if sheet is None else _EXPORTED,
    # Quoted, as YAML too: it may hold what YAML reads as its own.
    license=json.dumps(license, ensure_ascii=False),
    weights_license=_ASK_LICENSE if license == UNKNOWN_LICENSE else license,
    sizes=_sizes(bundles, num_bytes or {}),
    training=_ASK_TRAINING if training is None else _section(training),
    data=_data(pathlib.Path(corpus or model / 'corpus')),
    parity='' if sheet is None else _parity(sheet),
    evaluation=_evaluation(model),
  )


def without_local_paths(text: str) -> str:
  """The text, of every absolute path the last name alone."""
  return _LOCAL.sub('', text)


def _sizes(bundles: Mapping[str, Bundle], num_bytes: Mapping[str, int]) -> str:
  lines = ['| part | weights | makes | fingerprint |', '|---|---|---|---|']
  for place, found in bundles.items():
    count = f'{_num_weights(found.weights) / 1e6:.2f} M'
    if place in num_bytes:
      count += f', {num_bytes[place] / 1e6:.2f} MB'
    lines.append(
      f'| {place} | {count} | {_makes(found)} | `{found.fingerprint[:12]}` |'
    )
  return '\n'.join(lines)


def _makes(found: Bundle) -> str:
  """The codes that a component makes, in words."""
  stream, levels = found.stream_out, None
  if stream is None:
    take = found.config.spec.output
    stream, levels = take.stream, take.levels
  if levels is None or len(levels) == stream.num_codebooks:
    of_which = f'{stream.num_codebooks} level(s)'
  else:
    of_which = f'levels {levels[0] + 1} to {levels[-1] + 1}'
  rate = 'one frame' if stream.rate_hz is None else f'{stream.rate_hz} Hz'
  return f'{stream.name}: {of_which} of {stream.codebook_size} codes, {rate}'


def _num_weights(weights: object) -> int:
  if isinstance(weights, Mapping):
    return sum(map(_num_weights, weights.values()))
  return weights.size


def _data(corpus_dir: pathlib.Path) -> str:
  """What the corpus says of itself."""
  path = corpus_dir / 'corpus.json'
  if not path.exists():
    return _ASK_DATA
  corpus = json.loads(path.read_text(encoding='utf-8'))
  hours = {
    split: counts['samples'] / corpus['sample_rate_hz'] / 3600
    for split, counts in corpus['splits'].items()
  }
  return (
    f'The corpus `{without_local_paths(corpus["source"])}`'
    f' (`{without_local_paths(corpus["source_config"])}`): '
    + ', '.join(
      f'{counts["clips"]} clips, {hours[split]:.2f} h of {split}'
      for split, counts in corpus['splits'].items()
    )
    + '.'
  )


def _parity(sheet: Sheet) -> str:
  """The section, in Markdown."""
  lines = [
    '| part | comparisons | largest error | relative | codes equal |',
    '|---|---|---|---|---|',
  ]
  found = collections.defaultdict(list)
  for check in sheet.checks:
    found[check.component].append(check)
  for component, checks in found.items():
    errors = [c.max_abs_error for c in checks if c.max_abs_error is not None]
    shares = [
      c.max_relative_error for c in checks if c.max_relative_error is not None
    ]
    equal = [c.equal_share for c in checks if c.equal_share is not None]
    lines.append(
      f'| {component} | {len(checks)} |'
      f' {f"{max(errors):.2g}" if errors else ""} |'
      f' {f"{max(shares):.2g}" if shares else ""} |'
      f' {f"{100 * min(equal):.4g} %" if equal else ""} |'
    )
  return _PARITY.format(clips=sheet.clips, table='\n'.join(lines))


def _evaluation(model: pathlib.Path) -> str:
  """The reports beside the model, without the paths of this machine."""
  parts = []
  for path in sorted((model / 'evaluation').glob('*/*.md')):
    report = path.read_text(encoding='utf-8')
    report = report.replace(f'{model}/', '').replace(f'{model.resolve()}/', '')
    parts.append(f'### {path.stem}\n\n{_section(report)}')
  return '\n\n'.join(parts) or _NO_REPORTS


def _section(text: str) -> str:
  """Markdown, its headings below the card's, without paths of this machine."""
  lines, is_code = [], False
  for line in without_local_paths(text).splitlines():
    is_code ^= line.startswith('```')
    # Code has comments, not headings.
    lines.append(f'##{line}' if line[:1] == '#' and not is_code else line)
  return '\n'.join(lines).strip()
