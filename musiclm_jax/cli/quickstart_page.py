# SPDX-License-Identifier: Apache-2.0
"""The page that `musiclm quickstart` leaves: sound, figures and commands.

What the demo model is, the page reads in its model card.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence

from musiclm_jax.evaluation import page

# Each model's folder, and figures that fall when it learns: the codec's on
# held-out tunes; the others' in training, for three held-out tunes tell little.
LEARNED = {
  'codec': ('evaluate/codec/mel_distance',),
  'w2v_bert': ('train/w2v_bert/mlm', 'train/w2v_bert/contrastive'),
  'mulan': ('train/loss',),
  'semantic_stage': ('train/stage/semantic/bits_per_code/semantic',),
  'coarse_stage': ('train/stage/coarse/bits_per_code/acoustic',),
  'fine_stage': ('train/stage/fine/bits_per_code/acoustic',),
}

_TITLE = 'musiclm_jax: text in, music out'
_OF_THE_CARD = ('What it is', 'Training', 'Data', 'Licence')


def write(
  path: pathlib.Path,
  *,
  commands: Sequence[tuple[str, str]],
  output: pathlib.Path,
) -> None:
  """Writes the page.

  Args:
    path: Of the HTML file.
    commands: What was done, and the command that did it, in order.
    output: The quickstart's folder.
  """
  from musiclm_jax.inference import demo  # Late, so that `--help` answers.

  page.write(
    path,
    title=_TITLE,
    sections=[
      *([] if demo.find() is None else _demo(output / 'demo')),
      _trained_here(output / 'generated'),
      _commands(commands),
      _curves(output),
      _codec(output / 'evaluation' / 'codec'),
      page.Section(
        title='The stages beside n-grams',
        text=_table(output / 'evaluation' / 'stages' / 'stages.md'),
      ),
    ],
  )


def write_demo(path: pathlib.Path, *, output: pathlib.Path) -> None:
  """The page while there is nothing but what the demo model made."""
  page.write(path, title=_TITLE, sections=_demo(output / 'demo'))


def curve(folder: pathlib.Path, figure: str) -> Mapping[int, float]:
  """A figure of a run by step."""
  from musiclm_jax.training import metrics_writer  # Late: TensorBoard's.

  lines = metrics_writer.read(folder / 'metrics' / metrics_writer.FILE_NAME)
  return {line['step']: line[figure] for line in lines if figure in line}


def _demo(folder: pathlib.Path) -> list[page.Section]:
  from musiclm_jax.inference import demo

  made = json.loads((folder / 'generate.json').read_text())
  told = [
    # Headings within go below.
    f'### {name}\n\n{text.replace("### ", "#### ")}'
    for name, text in demo.card().items()
    if name in _OF_THE_CARD
  ]
  until = made['time_until']
  music = _music(
    folder,
    title='Music from the demo model',
    text='It comes with the package; nothing was trained for this. Here the'
    f' first piece was there after {until["first_sound"]["seconds"]:.0f} s and'
    f' all of them after {until["all"]["seconds"]:.0f} s, of which compiling'
    f' took {until["all"]["compiling"]:.0f} s.',
  )
  what = page.Section(title='The demo model', text='\n\n'.join(told))
  return [music, what]


def _trained_here(folder: pathlib.Path) -> page.Section:
  return _music(
    folder,
    title='Music from the model that was trained here',
    text='Minutes of training on two cores make notes, not yet music: this'
    ' shows that every part works. The same commands with larger experiments'
    ' and more data make the rest.',
  )


def _music(folder: pathlib.Path, *, title: str, text: str) -> page.Section:
  pieces = json.loads((folder / 'generate.json').read_text())['pieces']
  return page.Section(
    title=title,
    text=text,
    audio={piece['prompt']: folder / piece['file'] for piece in pieces},
    pictures={'Their spectrograms': folder / 'spectrograms.png'},
  )


def _commands(commands: Sequence[tuple[str, str]]) -> page.Section:
  lines = [f'# {about}\n{typed}' for about, typed in commands]
  return page.Section(
    title='What was done',
    text='Each step is an ordinary command; these are all of them.\n\n'
    '```\n' + '\n\n'.join(lines) + '\n```',
  )


def _curves(output: pathlib.Path) -> page.Section:
  from musiclm_jax.evaluation import pictures  # Late: matplotlib.

  shown = {}
  for model, figures in LEARNED.items():
    path = output / model / 'curve.svg'
    pictures.save_curves(
      {figure: curve(output / model, figure) for figure in figures}, path=path
    )
    shown[model] = path
  return page.Section(title='What was learned', text='By step.', pictures=shown)


def _codec(evaluation: pathlib.Path) -> page.Section:
  audio = evaluation / 'audio'
  return page.Section(
    title='The codec beside Opus',
    text=_table(evaluation / 'codec.md'),
    audio={path.stem: path for path in sorted(audio.glob('*.wav'))},
    pictures={'Spectrograms': evaluation / 'codec.png'},
  )


def _table(path: pathlib.Path) -> str:
  return path.read_text(encoding='utf-8')
