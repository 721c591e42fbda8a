# SPDX-License-Identifier: Apache-2.0
"""Music of any system beside a reference: FAD, KLD, MCC, levels.

  musiclm evaluate music --generated out --reference runs/tunebook \\
    --model runs/model --output runs/evaluation

--generated is any folder of audio files, at any rates, of any lengths, mono or
not; --reference another one, or a prepared corpus. Files of one name in both
are pairs for KLD. --prompts says what each file was asked to be, in lines of
{"file": …, "prompt": …}; what `musiclm generate` wrote says so itself.

--embedders is a list of names, with a path where the weights come with no
package: musicnn,vggish=vggish.pth,clap=FOLDER. --model adds the MuLan and the
codec of a model. Writes music.json (every figure), music.md and music.html
(tables and plots); prints the tables.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags
from musiclm_jax.cli.evaluations import _clips

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.evaluation import music as evaluation
  from musiclm_jax.evaluation.embedders.base import Embedder
  from musiclm_jax.evaluation.prompts import Prompt


def add_arguments(parser: flags.Parser) -> None:
  parser.add_argument(
    '--generated', required=True, metavar='DIR', help='audio files'
  )
  parser.add_argument(
    '--reference', required=True, metavar='DIR', help='the same, or a corpus'
  )
  parser.add_argument(
    '--prompts', metavar='FILE', help='what each file was asked to be'
  )
  add_embedder_arguments(parser)
  _clips.add_corpus_arguments(parser)
  parser.add_argument('--output', required=True, help='folder to write to')


def add_embedder_arguments(parser: flags.Parser) -> None:
  """Who listens."""
  parser.add_argument('--model', metavar='DIR', help='of a music_lm.json')
  parser.add_argument(
    '--embedders',
    default='musicnn',
    type=lambda names: names.split(','),
    help='such as musicnn,vggish=vggish.pth',
  )


def run(options: argparse.Namespace) -> None:
  from musiclm_jax.evaluation import music as evaluation
  from musiclm_jax.evaluation import music_report

  asked = _prompts(options)
  sides = [
    _clips.music_of(directory, options=options)
    for directory in (options.generated, options.reference)
  ]
  embedders = load_embedders(options)
  generated, reference = (hear(side, embedders=embedders) for side in sides)
  found = evaluation.evaluate(
    generated, reference, embedders=embedders, prompts=asked
  )
  about = (
    f'`musiclm evaluate music --generated {options.generated} --reference'
    f' {options.reference}`'
  )
  output = pathlib.Path(options.output)
  music_report.write(found, directory=output, about=about)
  print(music_report.to_markdown(found, about=about))
  print(f'Written to {output}.')


def load_embedders(options: argparse.Namespace) -> list[Embedder]:
  """Those that --embedders names, and those of --model."""
  from musiclm_jax.evaluation.embedders import loading
  from musiclm_jax.inference import assembly

  wanted = dict(spec.partition('=')[::2] for spec in options.embedders)
  if len(wanted) != len(options.embedders):
    raise flags.UsageError(
      f'--embedders names one twice: {",".join(options.embedders)}'
    )
  for name in wanted:
    if name not in loading.names():
      raise flags.UsageError(
        f'there is no embedder {name!r}{flags.nearest(name, loading.names())}'
      )
  if options.model:
    for name, folder in assembly.read(options.model).tokenizers.items():
      if name in loading.names():
        wanted.setdefault(name, str(folder))
  return [loading.load(name, path or None) for name, path in wanted.items()]


def hear(side: _clips.Music, *, embedders: list[Embedder]) -> evaluation.Heard:
  """Hears a set, with a bar."""
  import rich.progress

  from musiclm_jax.evaluation import music as evaluation

  return evaluation.hear(
    rich.progress.track(side.clips, total=side.count, description='Listening'),
    source=side.source,
    embedders=embedders,
  )


def _prompts(options: argparse.Namespace) -> list[Prompt]:
  """Those of the file, or what the folder itself says; there may be none."""
  from musiclm_jax.evaluation import prompts

  says = (pathlib.Path(options.generated) / prompts.GENERATED_JSON).exists()
  if not says and options.prompts is None:
    return []
  return prompts.of_folder(options.generated, prompt_file=options.prompts)
