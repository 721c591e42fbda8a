# SPDX-License-Identifier: Apache-2.0
"""What a semantic stage has by heart: MusicLM's test, and a control.

  musiclm evaluate memorization --model runs/semantic_stage \\
    --semantic runs/semantic --tokens runs/tokens --split train,test \\
    --num_examples 200 --prompt_tokens 0,25,50,125 --output runs/evaluation

Prompts the stage with the condition and the first true tokens of an example,
lets it go on greedily for 125 tokens, and counts exact and approximate matches
with what truly follows. Name a split that was not trained on beside the
training split: what matches there was not learnt by heart. Writes
memorization.md (a table) and memorization.json (every example's figures).
"""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.data.token_corpus import TokenCorpus
  from musiclm_jax.evaluation.memorization import Examples
  from musiclm_jax.stages.spec import StageSpec


def add_arguments(parser: flags.Parser) -> None:
  add = parser.add_argument
  add('--model', required=True, help='folder of the semantic stage')
  add('--semantic', required=True, help='folder of its tokenizer')
  add('--tokens', required=True, help='the token corpus it was trained on')
  add(
    '--split',
    default='train,test',
    type=lambda names: names.split(','),
    help='one, or several, such as train,test',
  )
  add('--num_examples', type=int, default=200, help='of each split')
  add(
    '--prompt_tokens',
    type=lambda text: tuple(int(number) for number in text.split(',')),
    help='such as 0,25,50,125,250',
  )
  add('--seed', type=int, default=0, help='of the choice of examples')
  add('--output', required=True, help='folder to write to')


def run(options: argparse.Namespace) -> None:
  import rich.progress

  from musiclm_jax.checkpoints import bundle
  from musiclm_jax.data import token_corpus, token_loader
  from musiclm_jax.evaluation import memorization, memorization_report
  from musiclm_jax.inference.decoding import StageDecoder
  from musiclm_jax.semantic import base, tokenizer
  from musiclm_jax.streams import require_same_stream

  stage = bundle.load(options.model, kind='stage')
  spec = stage.config.spec
  semantic = bundle.load(options.semantic, kind=base.TOKENIZER)
  require_same_stream(
    wanted=spec.output.stream,
    got=semantic.stream_out,
    remedy=f'{options.semantic} is not the tokenizer of {options.model}; give'
    ' the one that it was trained with.',
  )
  config = memorization.MemorizationConfig()
  if options.prompt_tokens:
    config = memorization.MemorizationConfig(
      prompt_frames=options.prompt_tokens
    )
  tokens = token_corpus.TokenCorpus(options.tokens)
  token_loader.require_streams(tokens, spec=spec, corpus_dir=options.tokens)
  splits = [
    choose_examples(
      tokens,
      spec=spec,
      split=split,
      num_examples=options.num_examples,
      num_frames=config.num_frames,
      seed=options.seed,
    )
    for split in options.split
  ]
  with rich.progress.Progress() as display:
    task = display.add_task('Continuing', total=1.0)
    found = memorization.evaluate(
      StageDecoder.of_bundle(stage),
      splits,
      centroids=semantic.weights[tokenizer.CENTROIDS],
      config=config,
      progress=lambda share: display.update(task, completed=share),
    )
  about = (
    f'{options.model} ({stage.fingerprint[:12]}) on {options.tokens}; examples'
    f' drawn with seed {options.seed}.'
  )
  output = pathlib.Path(options.output)
  memorization_report.write(found, directory=output, about=about)
  print(memorization_report.to_markdown(found, about=about))
  print(f'Written to {output}.')


def choose_examples(
  tokens: TokenCorpus,
  *,
  spec: StageSpec,
  split: str,
  num_examples: int,
  num_frames: int,
  seed: int,
) -> Examples:
  """Random windows, begun on a whole second as in training.

  Clips with fewer frames are left out; a clip may give several windows.
  """
  import math

  import numpy as np

  from musiclm_jax.data import token_loader
  from musiclm_jax.evaluation.memorization import Examples

  rate_hz = spec.output.stream.rate_hz
  long_enough = [
    int(clip)
    for clip in tokens.clips(split)
    if math.floor(tokens.num_seconds(clip) * rate_hz) >= num_frames
  ]
  places = [
    (clip, second)
    for clip in long_enough
    for second in range(
      max(0, math.floor(tokens.num_seconds(clip) - spec.window_seconds)) + 1
    )
  ]
  if not 2 <= num_examples <= len(places):
    raise ValueError(
      f'{num_examples} examples are wanted, 2 or more; split {split!r} has'
      f' {len(places)} windows in {len(long_enough)} clips of {num_frames}'
      ' frames or more. Change --num_examples or --prompt_tokens.'
    )
  chosen = np.random.default_rng(seed).permutation(len(places))[:num_examples]
  windows = [places[number] for number in chosen]
  return Examples(
    split=split,
    batch=token_loader.crops(tokens, windows, spec=spec),
    tunes=tuple(tokens.describe(clip).group for clip, _ in windows),
  )
