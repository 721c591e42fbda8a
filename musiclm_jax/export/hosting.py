# SPDX-License-Identifier: Apache-2.0
"""What lies around an exported MusicLM for those who serve it or hand it on.

    serve.py serving/         a server: `python serve.py`
    requirements-serve.txt    what it needs
    modeling_musiclm_hf.py    classes of transformers, named in config.json
    requirements-transformers.txt
    README.md                 the model card

With it the folder can be pushed to a hub as it is.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Collection

from musiclm_jax.export import folder as folders

MODEL_CARD = 'README.md'

_HERE = pathlib.Path(__file__).parent
_CLASSES = 'modeling_musiclm_hf.py'
_SERVE = """# SPDX-License-Identifier: Apache-2.0
\"\"\"Serves this folder over HTTP; `python serve.py --help` tells more.\"\"\"

from serving.main import main

if __name__ == '__main__':
  main()
"""
# Files of requirements, each with those of the modules and these.
_REQUIRED = {
  'requirements-serve.txt': (
    'fastapi',
    'pydantic',
    'soundfile',
    'starlette',
    'uvicorn',
  ),
  'requirements-transformers.txt': ('huggingface_hub', 'transformers'),
}
_TRANSFORMERS = {
  'model_type': 'musiclm',
  'architectures': ['MusicLMModel'],
  'auto_map': {
    'AutoConfig': 'modeling_musiclm_hf.MusicLMConfig',
    'AutoModel': 'modeling_musiclm_hf.MusicLMModel',
  },
}


def is_served(places: Collection[str]) -> bool:
  """Whether they take prompts: an AudioLM has no server and card."""
  return {'mulan', 'stages/fine'} <= set(places)


def write(directory: pathlib.Path, *, card: str) -> None:
  """Completes the folder of a whole MusicLM, which has its config already."""
  shutil.copytree(
    _HERE / 'serving',
    directory / 'serving',
    ignore=shutil.ignore_patterns('__pycache__'),
  )
  (directory / 'serve.py').write_text(_SERVE)
  required = (directory / folders.REQUIREMENTS).read_text().split()
  for name, more in _REQUIRED.items():
    folders.write_requirements(directory / name, [*required, *more])
  shutil.copyfile(_HERE / _CLASSES, directory / _CLASSES)
  config = directory / folders.CONFIG
  fields = json.loads(config.read_text()) | _TRANSFORMERS
  config.write_text(json.dumps(fields, indent=2) + '\n')
  (directory / MODEL_CARD).write_text(card)
