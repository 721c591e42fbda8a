# SPDX-License-Identifier: Apache-2.0
"""From nothing to text in, music out: what `make demo` runs.

  musiclm quickstart --output runs/quickstart
  musiclm quickstart --output runs/mine --data_dir /music

Makes music with the demo model that comes with the package. Then prepares a
little of the default data set, or a folder of your own music; trains every
model of the cascade on it, tiny; makes music for the same prompts; and leaves a
page to look at and listen to, index.html. Every step is an ordinary command,
which is shown before it runs; an interrupted quickstart goes on where it was,
and makes its music again where prompts, model or sampling are others.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

from musiclm_jax.cli import flags, quickstart_page
from musiclm_jax.cli import main as shell
from musiclm_jax.inference import demo
from musiclm_jax.stages.spec import STAGES

PROMPTS = (
  'a slow waltz on solo piano',
  'a fast reel on the accordion',
  'a calm chorale for strings',
  'a lively jig on the flute',
)
SECONDS = 10

# What a fit makes.
_FITTED = {'semantic': 'semantic', 'mulan_rvq': 'conditioner'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
  """One command.

  Attributes:
    about: What it does, in a few words.
    argv: The verb and its arguments.
    done: A file that exists once it has finished.
    model: Whose music it makes, if it makes any.
  """

  about: str
  argv: tuple[str, ...]
  done: pathlib.Path
  model: str | None = None

  @property
  def typed(self) -> str:
    """As one would type it: shlex turns gin's quotes into a thicket."""
    words = (f'"{a}"' if "'" in a else shlex.quote(a) for a in self.argv)
    return f'musiclm {" ".join(words)}'


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm quickstart', description=__doc__)
  parser.add_argument(
    '--output', default='runs/quickstart', help='folder to write to'
  )
  parser.add_argument(
    '--data_dir',
    help='a folder of your own audio files, with captions.csv or .jsonl',
  )
  options = parser.parse_args(argv)
  quickstart(options)


def quickstart(options: argparse.Namespace) -> None:
  """`musiclm quickstart`."""
  output = pathlib.Path(options.output)
  has_demo = demo.find() is not None
  if not has_demo:
    print('No demo model comes with this version, so none is played first.')
  todo = steps(output, has_demo=has_demo, data_dir=options.data_dir)
  page = output / 'index.html'
  began = time.monotonic()
  for number, step in enumerate(todo, start=1):
    print(f'\n[{number}/{len(todo)}] {step.about}', flush=True)
    print(f'  $ {step.typed}', flush=True)
    if step.done.exists() and _would_be_same(step):
      print(f'  {step.done} is there already.', flush=True)
    else:
      _run(step)
    if has_demo and number == 1:
      quickstart_page.write_demo(page, output=output)
      print(f'  Open {page} to hear it; the rest of the page is made now.')
  quickstart_page.write(
    page,
    commands=[(step.about, step.typed) for step in todo],
    output=output,
  )
  seconds = time.monotonic() - began
  print(f'\nDone in {seconds // 60:.0f} min {seconds % 60:.0f} s. Open {page}')


def _would_be_same(step: Step) -> bool:
  """False of music, after saying so, that would be another now."""
  if step.model is None:
    return True
  from musiclm_jax.cli import generate_files  # Late, so that `--help` answers.

  same = generate_files.would_be_same(
    step.done, model=step.model, prompts=PROMPTS, seconds=SECONDS
  )
  if not same:
    print(
      f'  {step.done} is of other prompts, weights or sampling.', flush=True
    )
    step.done.unlink()  # Else, cut off, new pieces would stand under it.
  return same


def steps(
  output: pathlib.Path, *, has_demo: bool, data_dir: str | None = None
) -> list[Step]:
  """The commands, in order."""
  first = _generate(
    output / 'demo', 'Make music with the demo model', model=demo.NAME
  )
  return [
    *([first] if has_demo else []),
    _prepare(output, data_dir),
    _train(output, 'codec', 'a tiny SoundStream', experiment='codec_tiny'),
    _train(output, 'w2v_bert', 'a tiny w2v-BERT', experiment='w2v_bert_tiny'),
    _fit(
      output,
      'semantic',
      'k-means: w2v-BERT becomes 25 tokens a second',
      trained='w2v_bert',
      experiment='semantic_tokens_tiny',
    ),
    _train(output, 'mulan', 'a tiny MuLan', experiment='mulan_tiny'),
    _fit(
      output,
      'mulan_rvq',
      "MuLan's codebooks: one space of codes for audio and text",
      trained='mulan',
      experiment='mulan_rvq_tiny',
    ),
    _tokenize(output),
    *(
      _train(
        output,
        f'{stage}_stage',
        f'the {stage} stage',
        experiment=f'{stage}_stage_tiny',
        data='TOKENS',
      )
      for stage in STAGES
    ),
    _assemble(output),
    _evaluate_codec(output),
    _evaluate_stages(output),
    _generate(
      output / 'generated',
      'Make music with the model that was trained here',
      model=str(output),
    ),
  ]


def _prepare(output: pathlib.Path, data_dir: str | None) -> Step:
  if data_dir is None:
    about = 'Render 60 tunes of the default data set'
    chosen = ('--gin_file=data/tunebook.gin', '--gin.MAX_TUNES=60')
  else:
    about = f'Read the music in {data_dir}'
    chosen = ('--gin_file=data/folder.gin', f"--gin.FOLDER='{data_dir}'")
  corpus = output / 'corpus'
  return Step(
    about=about,
    argv=('data', 'prepare', *chosen, f'--output={corpus}'),
    done=corpus / 'corpus.json',
  )


def _train(
  output: pathlib.Path,
  name: str,
  about: str,
  *,
  experiment: str,
  data: str = 'CORPUS',
) -> Step:
  model = output / name
  return Step(
    about=f'Train {about}',
    argv=(
      'train',
      f'--gin_file=experiments/{experiment}.gin',
      f"--gin.MODEL_DIR='{model}'",
      f"--gin.{data}='{output / data.lower()}'",
    ),
    done=model / 'model.json',
  )


def _fit(
  output: pathlib.Path, kind: str, about: str, *, trained: str, experiment: str
) -> Step:
  model = output / _FITTED[kind]
  return Step(
    about=f'Fit {about}',
    argv=(
      'fit',
      kind,
      f'--gin_file=experiments/{experiment}.gin',
      f"--gin.TRAINED='{output / trained}'",
      f"--gin.CORPUS='{output / 'corpus'}'",
      f"--gin.MODEL_DIR='{model}'",
    ),
    done=model / 'model.json',
  )


def _tokenize(output: pathlib.Path) -> Step:
  tokens = output / 'tokens'
  return Step(
    about='Turn the audio into three streams of codes',
    argv=(
      'tokenize',
      f'--corpus={output / "corpus"}',
      f'--codec={output / "codec"}',
      f'--semantic={output / "semantic"}',
      f'--conditioner={output / "conditioner"}',
      f'--output={tokens}',
    ),
    done=tokens / 'corpus.json',
  )


def _assemble(output: pathlib.Path) -> Step:
  stages = (f'--{stage}_stage={output / f"{stage}_stage"}' for stage in STAGES)
  return Step(
    about='Make one MusicLM of the six bundles',
    argv=(
      'assemble',
      f'--codec={output / "codec"}',
      f'--semantic={output / "semantic"}',
      f'--conditioner={output / "conditioner"}',
      *stages,
      f'--output={output}',
    ),
    done=output / 'music_lm.json',
  )


def _evaluate_codec(output: pathlib.Path) -> Step:
  evaluation = output / 'evaluation' / 'codec'
  return Step(
    about='Measure the codec on held-out tunes, beside Opus',
    argv=(
      'evaluate',
      'codec',
      f'--model={output / "codec"}',
      f'--corpus={output / "corpus"}',
      '--split=test',
      '--num_clips=3',
      '--metrics=mel_distance_db,si_sdr_db',
      f'--output={evaluation}',
    ),
    done=evaluation / 'codec.md',
  )


def _evaluate_stages(output: pathlib.Path) -> Step:
  evaluation = output / 'evaluation' / 'stages'
  return Step(
    about='Measure the stages on held-out tunes, beside n-grams',
    argv=(
      'evaluate',
      'stages',
      f'--tokens={output / "tokens"}',
      '--model=' + ','.join(str(output / f'{s}_stage') for s in STAGES),
      f'--output={evaluation}',
    ),
    done=evaluation / 'stages.md',
  )


def _generate(folder: pathlib.Path, about: str, *, model: str) -> Step:
  return Step(
    about=about,
    argv=(
      'generate',
      *([] if model == demo.NAME else [f'--model={model}']),
      *(f'--prompt={prompt}' for prompt in PROMPTS),
      f'--seconds={SECONDS}',
      f'--output={folder}',
    ),
    done=folder / 'generate.json',
    model=model,
  )


def _run(step: Step) -> None:
  """Runs a step as the user would, so that each leaves its memory behind."""
  verb, *arguments = step.argv
  command = [sys.executable, '-m', f'musiclm_jax.cli.{verb}', *arguments]
  code = subprocess.run(command, check=False).returncode
  if code:
    raise ChildProcessError(
      f'the step "{step.about}" ended with code {code}; mend what it says and'
      ' run the quickstart again, it goes on from there.'
    )


if __name__ == '__main__':
  shell.run('quickstart')
