# SPDX-License-Identifier: Apache-2.0
"""Programs that are read back from their files, beside the models."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec import base as codec_base
from musiclm_jax.export import stablehlo
from musiclm_jax.export.folder import Model
from musiclm_jax.stages import fine, lm
from tests.export import toys, whole
from tests.inference import toys as inference_toys

pytestmark = pytest.mark.slow

BATCH = 2


@pytest.fixture(scope='module')
def exported(codec_dir, tmp_path_factory):
  """A codec and a stage over its codes, as bundles, and the folder of both."""
  directory = tmp_path_factory.mktemp('stablehlo')
  codec = bundle.load(codec_dir)
  stream = dataclasses.replace(codec.stream_out, rate_hz=10)
  spec = fine.fine(acoustic=stream, num_coarse_levels=1, window_seconds='0.5')
  bundle.publish(directory / 'fine', whole.stage(spec))
  bundles = {'codec': codec, 'stages/fine': bundle.load(directory / 'fine')}
  model = Model(bundles=bundles, sampling=inference_toys.GUIDED)
  stablehlo.write(directory, model)
  return directory / stablehlo.FOLDER, bundles


def program(folder, name):
  path = folder / f'{name}.stablehlo'
  return jax.export.deserialize(bytearray(path.read_bytes()))


def zeros(folder, name, argument, *, batch=BATCH):
  """What an argument begins with, from what the JSON says."""
  described = json.loads((folder / stablehlo.JSON).read_text())

  def leaf(fields):
    shape = [batch if size == 'batch' else size for size in fields['shape']]
    return np.zeros(shape, fields['dtype'])

  return jax.tree.map(
    leaf,
    described['programs'][name]['arguments'][argument],
    is_leaf=lambda node: 'shape' in node and 'dtype' in node,
  )


def test_the_codec_comes_back_chunk_by_chunk(exported):
  folder, bundles = exported
  codec = codec_base.load_codec(bundles['codec'].directory)
  weights = safetensors.numpy.load_file(folder / 'codec.safetensors')
  samples = 2 * 50 * toys.HOP
  waveform = np.random.default_rng(0).uniform(-1, 1, (BATCH, samples))
  waveform = waveform.astype(np.float32)
  wanted = codec.encode(waveform, sample_rate_hz=codec.sample_rate_hz)
  for name, chunks, expected in (
    ('codec_encode', np.split(waveform, 2, axis=1), wanted),
    ('codec_decode', np.split(wanted, 2, axis=1), codec.decode(wanted)),
  ):
    run = program(folder, name)
    assert set(run.platforms) == {'cpu', 'cuda', 'tpu'}
    state, parts = zeros(folder, name, 'state'), []
    for chunk in chunks:
      made, state = run.call(weights, state, chunk)
      parts.append(np.asarray(made))
    np.testing.assert_allclose(
      np.concatenate(parts, axis=1), expected, atol=1e-6
    )


def test_a_stage_goes_on_from_its_prompt(exported):
  folder, bundles = exported
  found = bundles['stages/fine']
  config, params = lm.to_decode(found.config, found.weights['params'])
  layout = config.layout
  tokens = (
    np.random.default_rng(0)
    .integers(
      layout.legal_start, layout.legal_stop, size=(BATCH, layout.length)
    )
    .astype(np.int32)
  )
  params = jax.tree.map(jnp.asarray, params)
  wanted = lm.StageLM(config).apply({'params': params}, tokens)
  weights = safetensors.numpy.load_file(folder / 'stages_fine.safetensors')
  first = layout.output.start - 1
  caches = program(folder, 'stages_fine_prefill').call(
    weights, tokens[:, :first]
  )
  step = program(folder, 'stages_fine_step')
  for number in range(3):
    position = first + number
    logits, caches = step.call(
      weights,
      caches,
      tokens[:, position],
      np.ones((BATCH, layout.length), bool),
      np.int32(position),
    )
    np.testing.assert_allclose(
      logits, wanted.reshape(BATCH, -1, 17)[:, number], atol=1e-5
    )


HOST = """
import sys, pathlib, json
import jax.export, numpy as np, safetensors.numpy
folder = pathlib.Path(sys.argv[1])
weights = safetensors.numpy.load_file(folder / 'codec.safetensors')
path = folder / 'codec_decode.stablehlo'
run = jax.export.deserialize(bytearray(path.read_bytes()))
described = json.loads((folder / 'programs.json').read_text())
shapes = described['programs']['codec_decode']['arguments']['state']
for batch in (1, 3):
  state = {
    path: np.zeros([batch, *leaf['shape'][1:]], leaf['dtype'])
    for path, leaf in shapes.items()
  }
  codes = np.zeros((batch, 50, 3), np.int32)
  print(run.call(weights, state, codes)[0].shape)
sampling = described['sampling']
print(sampling['guidance_scale'], sampling['coarse'])
assert not any(name.startswith(('musiclm', 'flax')) for name in sys.modules)
"""


def test_a_host_needs_jax_alone_and_takes_any_batch(exported):
  folder, _ = exported
  done = subprocess.run(
    [sys.executable, '-c', HOST] + [str(folder)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  *shapes, sampling = done.stdout.splitlines()
  assert shapes == ['(1, 300)', '(3, 300)']
  guided = inference_toys.GUIDED
  stated = dataclasses.asdict(guided.coarse)
  assert sampling == f'{guided.guidance_scale} {stated}'
  assert stated.keys() == {'temperature', 'top_k', 'top_p'}


def test_a_tokenizer_alone_has_none(semantic_dir, tmp_path):
  with pytest.raises(ValueError, match='not of semantic'):
    stablehlo.write(
      tmp_path, Model(bundles={'semantic': bundle.load(semantic_dir)})
    )
