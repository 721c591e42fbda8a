# SPDX-License-Identifier: Apache-2.0
import pathlib

import jax
import librosa
import musicnn as package
import numpy as np
import pytest

from musiclm_jax.evaluation.embedders import base, musicnn, tensor_bundle

FOLDER = pathlib.Path(package.__file__).parent / 'MTT_musicnn'


@pytest.fixture(scope='module')
def weights() -> dict[str, np.ndarray]:
  """Random ones: musicnn's kernels with 3, 2 and 5 maps in place of 204 …"""
  draw = np.random.default_rng(1)
  front, middle, dim, num_tags = (3, 3, 2, 2, 2), 5, 23, 11
  sizes = ((7, 38), (7, 67), (128, 1), (64, 1), (32, 1))
  kernels = [(*size, 1, maps) for size, maps in zip(sizes, front)]
  kernels += [(7, sum(front), 1, middle)] + 2 * [(7, middle, 1, middle)]
  pooled = 2 * (sum(front) + 3 * middle)
  shapes = {f'conv2d_{n}': shape for n, shape in enumerate(kernels)}
  shapes |= {'dense_0': (pooled, dim), 'dense_1': (dim, num_tags)}
  made = {}
  for name, shape in shapes.items():
    name = name.removesuffix('_0')
    scale = np.prod(shape[:-1]) ** -0.5
    made[f'{name}/kernel'] = scale * draw.standard_normal(shape)
    made[f'{name}/bias'] = 0.1 * draw.standard_normal(shape[-1])
  widths = (1, *front, middle, middle, middle, pooled, dim)
  for n, width in enumerate(widths):
    name = f'batch_normalization_{n}'.removesuffix('_0')
    made[f'{name}/gamma'] = draw.uniform(0.5, 2, width)
    made[f'{name}/beta'] = draw.standard_normal(width)
    made[f'{name}/moving_mean'] = draw.standard_normal(width)
    made[f'{name}/moving_variance'] = draw.uniform(0.5, 2, width)
  return {name: array.astype(np.float32) for name, array in made.items()}


@pytest.fixture(scope='module')
def model(weights) -> musicnn.Musicnn:
  return musicnn.Musicnn(
    weights, classes=[f'tag {n}' for n in range(11)], weights_sha256='00'
  )


def _clip(num_samples: int) -> np.ndarray:
  """Two notes, clicks and a little noise."""
  draw = np.random.default_rng(0)
  seconds = np.arange(num_samples) / musicnn.SAMPLE_RATE_HZ
  waveform = 0.2 * np.sin(2 * np.pi * 440 * seconds)
  waveform += 0.1 * np.sin(2 * np.pi * 1_234 * seconds) * (seconds > 1)
  waveform += 0.01 * draw.standard_normal(num_samples)
  waveform[::4_001] += 0.5
  return waveform.astype(np.float32)


def _logits(probabilities: np.ndarray) -> np.ndarray:
  return np.log(probabilities / (1 - probabilities))


def _log_mel(waveform: np.ndarray) -> np.ndarray:
  mel = librosa.feature.melspectrogram(
    y=waveform.astype(np.float64),
    sr=16_000,
    n_fft=512,
    hop_length=256,
    n_mels=96,
  )
  return np.log10(10_000 * mel.T + 1)


class InFloat64:
  """musicnn's graph for one patch, spelled out in NumPy."""

  def __init__(self, weights: dict[str, np.ndarray]):
    self.weights = {
      name: array.astype(np.float64) for name, array in weights.items()
    }

  def normalize(self, layer: str, x: np.ndarray) -> np.ndarray:
    mean, variance, gamma, beta = (
      self.weights[f'batch_normalization{layer}/{part}']
      for part in ('moving_mean', 'moving_variance', 'gamma', 'beta')
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

  def convolve(self, layer: str, x: np.ndarray) -> np.ndarray:
    """[frames, features] to [frames', features', maps], nothing padded."""
    kernel = self.weights[f'conv2d{layer}/kernel'][:, :, 0]
    patches = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2])
    out = np.tensordot(patches, kernel, axes=2)
    return np.maximum(out + self.weights[f'conv2d{layer}/bias'], 0)

  def embedding(self, mel: np.ndarray) -> np.ndarray:
    x = self.normalize('', mel)
    maps = [
      self.convolve(layer, np.pad(x, ((3, 3), (0, 0)))) for layer in ('', '_1')
    ] + [
      # The longer half of an even kernel's padding comes after.
      self.convolve(layer, np.pad(x, ((size // 2 - 1, size // 2), (0, 0))))
      for layer, size in (('_2', 128), ('_3', 64), ('_4', 32))
    ]
    front = np.concatenate(
      [
        self.normalize(f'_{n}', found).max(axis=1)
        for n, found in enumerate(maps, start=1)
      ],
      axis=1,
    )
    kept = [front]
    for n in (5, 6, 7):
      x = self.convolve(f'_{n}', np.pad(kept[-1], ((3, 3), (0, 0))))[:, 0]
      x = self.normalize(f'_{n + 1}', x)
      kept.append(x if n == 5 else x + kept[-1])
    features = np.concatenate(kept, axis=1)
    pooled = np.stack([features.max(0), features.mean(0)], axis=1).ravel()
    hidden = self.normalize('_9', pooled) @ self.weights['dense/kernel']
    hidden = np.maximum(hidden + self.weights['dense/bias'], 0)
    return self.normalize('_10', hidden)

  def logits(self, embedding: np.ndarray) -> np.ndarray:
    return (
      embedding @ self.weights['dense_1/kernel'] + self.weights['dense_1/bias']
    )


def test_embeddings_and_tags_are_those_of_the_graph_in_float64(model, weights):
  waveform = _clip(2 * 187 * 256 + 30_011)
  reference = InFloat64(weights)
  mel = _log_mel(waveform)
  wanted = np.array([reference.embedding(mel[n : n + 187]) for n in (0, 187)])
  found = model.embed(waveform)
  assert found.shape == (2, 23)
  heard = np.ptp(wanted, axis=0) > 1e-2  # Others are below the ReLU.
  assert np.count_nonzero(heard) > 5
  np.testing.assert_allclose(found, wanted, atol=1e-4)
  np.testing.assert_allclose(
    _logits(model.probabilities(found)), reference.logits(wanted), atol=1e-4
  )


def test_log_mel_is_librosas():
  waveform = _clip(musicnn.PATCH_SAMPLES)
  found = musicnn.log_mel(waveform[None])[0]
  wanted = _log_mel(waveform)[1:-1]  # Ours takes whole windows only.
  np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_short_clip_repeats_and_the_rest_of_a_long_one_is_not_heard(model):
  patch = 186 * 256  # Centres of 187 frames.
  short = _clip(10_007)
  repeated = np.concatenate([short] * 5)[:patch]
  np.testing.assert_array_equal(model.embed(short), model.embed(repeated))
  assert len(model.embed(_clip(patch + 187 * 256 - 1))) == 1
  assert len(model.embed(_clip(patch + 187 * 256))) == 2
  with pytest.raises(ValueError, match='at least one sample'):
    base.windows(short[:0], window_samples=3, hop_samples=2)


def test_a_patch_depends_on_its_own_samples_only(model):
  num_patches, changed = 11, 9  # Of more than one batch on 8 devices.
  patch = 187 * 256
  waveform = _clip(num_patches * patch)
  before = model.embed(waveform)
  waveform[changed * patch + 512 : (changed + 1) * patch - 512] *= 0.5
  after = model.embed(waveform)
  differs = np.any(before != after, axis=1)
  assert len(jax.devices()) == 8
  np.testing.assert_array_equal(differs, np.arange(num_patches) == changed)


def test_its_package_holds_the_weights_and_a_name_for_every_tag():
  model = musicnn.load()
  assert isinstance(model, base.Classifier)
  assert len(model.classes) == 50 and 'harpsichord' in model.classes
  assert model.dim == 200 and len(model.weights_sha256) == 64


def test_without_its_package_the_error_says_what_to_install(monkeypatch):
  monkeypatch.setattr(musicnn.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match='--no-deps musicnn==0.1.0'):
    musicnn.load()


@pytest.mark.slow
def test_tags_are_those_of_the_graph_that_its_authors_saved():
  import tensorflow as tf

  model = musicnn.load()
  waveform = _clip(2 * 187 * 256)
  mel = _log_mel(waveform)[None, :187].astype(np.float32)
  weights = tensor_bundle.read(
    FOLDER / '.index', FOLDER / '.data-00000-of-00001'
  )
  output = 'model/dense_1/BiasAdd'
  meta = tf.compat.v1.MetaGraphDef()
  meta.ParseFromString((FOLDER / '.meta').read_bytes())
  # Without its training part, whose shapes today's TensorFlow refuses.
  part = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, [output])
  with tf.Graph().as_default() as graph:
    tf.import_graph_def(part, name='')
    with tf.compat.v1.Session(graph=graph) as session:
      for operation in graph.get_operations():
        if operation.type == 'VariableV2':
          variable, value = operation.outputs[0], weights[operation.name]
          session.run(tf.raw_ops.Assign(ref=variable, value=value))
      logits = session.run(
        f'{output}:0',
        {'model/Placeholder:0': mel, 'model/Placeholder_2:0': False},
      )[0]
  found = model.embed(waveform)
  np.testing.assert_allclose(
    _logits(model.probabilities(found))[0], logits, atol=1e-4
  )
  np.testing.assert_allclose(
    InFloat64(weights).logits(InFloat64(weights).embedding(mel[0])),
    logits,
    atol=1e-4,
  )
