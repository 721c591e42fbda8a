# SPDX-License-Identifier: Apache-2.0
"""From a trained model and crops to a tokenizer on disk."""

import jax
import numpy as np
import pytest

from musiclm_jax import batches as batch_keys
from musiclm_jax.checkpoints import bundle
from musiclm_jax.quantization import scaled_kmeans
from musiclm_jax.quantization.streamed_kmeans import Lloyd, Start
from musiclm_jax.semantic import tokenizer
from musiclm_jax.tokenization import fit_semantic
from musiclm_jax.training.partitioning import Partitioner
from tests.semantic import toy_tokenizer
from tests.semantic.toy_tokenizer import HOP, RATE_HZ

CLUSTERS, FRAMES, ROWS = 7, 50, 8


class Melodies:
  """Batches of 8 melodies of 2 s; the last row of each is half padding."""

  batch_size = ROWS
  sample_rate_hz = RATE_HZ

  def batches(self, start, *, process_index=0, process_count=1):
    assert (process_index, process_count) == (0, 1)
    for number in range(start, 100):
      waveform = np.stack(
        [toy_tokenizer.music(2, seed=number * ROWS + r) for r in range(ROWS)]
      )
      mask = np.ones(waveform.shape, bool)
      mask[-1, FRAMES // 2 * HOP :] = False
      waveform[-1, FRAMES // 2 * HOP :] = np.nan
      yield {batch_keys.WAVEFORM: waveform, batch_keys.SAMPLE_MASK: mask}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  directory = tmp_path_factory.mktemp('w2v_bert')
  return directory, toy_tokenizer.publish_model(directory)


def features(*, num_batches=3, partitioner=None):
  return fit_semantic.Features(
    toy_tokenizer.CONFIG,
    toy_tokenizer.weights()[tokenizer.PARAMS],
    crops=Melodies(),
    num_batches=num_batches,
    partitioner=partitioner or Partitioner(data=1),
  )


def points_of(blocks):
  return np.concatenate(
    [np.asarray(b.points)[np.asarray(b.mask)] for b in blocks]
  )


def run(trained, model_dir, **changes):
  asked = {
    'crops': Melodies(),
    'num_batches': 3,
    'num_mlm_blocks': 1,
    'start': Start(num_clusters=CLUSTERS),
    'clustering': Lloyd(),
    'window_seconds': 4,
    'margin_seconds': 1,
    'bucket_seconds': 2,
    'partitioner': Partitioner(data=1),
  }
  return fit_semantic.fit(
    trained=trained, model_dir=model_dir, **(asked | changes)
  )


def test_a_tokenizer_is_published_with_both_fingerprints(trained, tmp_path):
  directory, model_fingerprint = trained
  fingerprint = run(directory, tmp_path, gin_config=lambda: '# As set.')
  found = bundle.load(tmp_path, kind='semantic')
  assert found.fingerprint == fingerprint
  assert found.stream_out.fingerprint == fingerprint
  assert found.trained_on == {'w2v_bert': model_fingerprint}
  assert (tmp_path / bundle.CONFIG_GIN).read_text() == '# As set.'
  # The second block of the MLM stack is not needed, nor what training needs.
  assert set(found.weights['params']['mlm']) >= {'block_0'}
  assert 'block_1' not in found.weights['params']['mlm']
  assert 'quantizer' not in found.weights['params']

  made = tokenizer.SemanticTokenizer.load(tmp_path)
  codes = made.encode(toy_tokenizer.music(6), sample_rate_hz=RATE_HZ)
  assert codes.shape == (1, 150)
  assert 0 <= codes.min() and codes.max() < CLUSTERS
  # Fitted to scaled activations: so are those that are encoded.
  crops = next(Melodies().batches(0))[batch_keys.WAVEFORM][:-1]
  scaled = made.features(crops, sample_rate_hz=RATE_HZ).reshape(-1, 14)
  np.testing.assert_allclose(scaled.mean(0), np.zeros(14), atol=0.3)
  np.testing.assert_allclose(scaled.std(0), np.ones(14), atol=0.3)


def test_padding_is_no_point_and_the_blocks_of_every_pass_are_alike():
  source = features()
  first, again = list(source()), list(source())
  assert len(first) == 3
  for block, twin in zip(first, again):
    assert block.mask.sum() == (ROWS - 1) * FRAMES + FRAMES // 2
    np.testing.assert_array_equal(block.points, twin.points)
  assert np.isfinite(points_of(first)).all()


@pytest.mark.slow
def test_a_mesh_of_eight_devices_fits_the_same_centroids():
  def fit(partitioner):
    return scaled_kmeans.fit(
      features(num_batches=1, partitioner=partitioner),
      start=Start(num_clusters=CLUSTERS),
      clustering=Lloyd(num_iterations=3),
      key=jax.random.key(5),
    )

  with jax.enable_x64():
    (scaler, whole), (twin, parts) = map(
      fit, (Partitioner(data=1), Partitioner(data=4, fsdp=2))
    )
  np.testing.assert_allclose(twin.mean, scaler.mean, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(parts.centroids, whole.centroids, atol=1e-4)
  np.testing.assert_array_equal(parts.counts, whole.counts)


def test_what_is_no_trained_model_is_named(tmp_path):
  toy_tokenizer.publish(tmp_path)
  with pytest.raises(ValueError, match="kind 'w2v_bert'.*'semantic'"):
    run(tmp_path, tmp_path / 'out')


def test_crops_at_another_rate_are_named(trained, tmp_path):
  crops = Melodies()
  crops.sample_rate_hz = 24_000
  with pytest.raises(ValueError, match='takes 16000 Hz.*at 24000 Hz'):
    run(trained[0], tmp_path, crops=crops)


def test_too_little_audio_is_named(trained, tmp_path):
  with pytest.raises(ValueError, match='375 points cannot make 500 clusters'):
    run(trained[0], tmp_path, num_batches=1, start=Start(num_clusters=500))
