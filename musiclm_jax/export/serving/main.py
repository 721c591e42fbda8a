# SPDX-License-Identifier: Apache-2.0
"""Serves the exported model of a folder over HTTP.

  python serve.py --port 8000
  curl -d '{"prompt": "a slow waltz on solo piano", "seed": 1}' \\
    localhost:8000/generate --output waltz.wav
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import pathlib
from collections.abc import Sequence

import torch
import uvicorn

from . import app
from .settings import Settings

_FOLDER = pathlib.Path(__file__).parents[1]


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--model', default=_FOLDER, help='the exported folder; this one')
  add('--host', default='127.0.0.1', help='0.0.0.0 listens to every network')
  add('--port', type=int, default=8000)
  add(
    '--device',
    default='cuda' if torch.cuda.is_available() else 'cpu',
    help='where the model runs (%(default)s)',
  )
  add('--dtype', choices=('float32', 'bfloat16', 'float16'))
  for field in dataclasses.fields(Settings):
    add(
      f'--{field.name}',
      type=type(field.default),
      default=field.default,
      help=f'{field.metadata["about"]} (%(default)s)',
    )
  options = parser.parse_args(argv)
  try:
    settings = Settings(
      **{
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(Settings)
      }
    )
  except ValueError as error:
    parser.error(str(error))
  # By name: it lies beside this package, in the exported folder alone.
  modules = importlib.import_module('modeling_musiclm')
  model = modules.MusicLM.from_pretrained(
    options.model,
    device=options.device,
    dtype=options.dtype and getattr(torch, options.dtype),
  )
  model.mulan.token_ids('')  # What it lacks is said now, not to each request.
  model.codec.fold_weight_norm()
  uvicorn.run(
    app.make_app(model, settings=settings),
    host=options.host,
    port=options.port,
    timeout_graceful_shutdown=settings.stop_seconds,
  )
