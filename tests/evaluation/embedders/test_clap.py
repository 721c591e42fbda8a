# SPDX-License-Identifier: Apache-2.0
"""A tiny CLAP with random weights, saved as the released ones are."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from musiclm_jax.evaluation.embedders import base, clap

RATE_HZ, SECONDS, DIM = 8_000, 1, 14


def save(folder, *, is_fused=False):
  torch.manual_seed(0)
  audio = transformers.ClapAudioConfig(
    spec_size=64,
    num_mel_bins=16,
    window_size=4,
    patch_embeds_hidden_size=16,
    hidden_size=32,
    depths=[1, 1],
    num_attention_heads=[2, 2],
    num_hidden_layers=2,
    enable_fusion=is_fused,
    fusion_type='aff_2d' if is_fused else None,
  )
  text = transformers.ClapTextConfig(
    vocab_size=300,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=40,
  )
  config = transformers.ClapConfig(
    text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=DIM
  )
  transformers.ClapModel(config).save_pretrained(folder)
  letters = [chr(n) for n in range(ord('a'), ord('z') + 1)] + ['Ġ']
  words = ['<s>', '<pad>', '</s>', '<unk>', '<mask>', *letters]
  transformers.ClapProcessor(
    feature_extractor=transformers.ClapFeatureExtractor(
      feature_size=16,
      sampling_rate=RATE_HZ,
      hop_length=80,
      max_length_s=SECONDS,
      fft_window_size=256,
      frequency_max=4_000,
      truncation='fusion' if is_fused else 'rand_trunc',
    ),
    tokenizer=transformers.RobertaTokenizer(
      vocab={word: n for n, word in enumerate(words)}, merges=[]
    ),
  ).save_pretrained(folder)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  found = tmp_path_factory.mktemp('clap')
  save(found)
  return found


@pytest.fixture(scope='module')
def ear(folder) -> clap.Clap:
  return clap.load(str(folder))


def _clip(num_samples: int) -> np.ndarray:
  draw = np.random.default_rng(num_samples)
  return draw.uniform(-0.5, 0.5, num_samples).astype(np.float32)


@pytest.mark.slow
def test_windows_are_embedded_as_the_library_embeds_each(ear, folder):
  clip = _clip(5 * RATE_HZ + 999)
  found = ear.embed(clip)
  assert found.shape == (5, DIM) and isinstance(ear, base.TextEmbedder)
  model = transformers.ClapModel.from_pretrained(folder).eval()
  processor = transformers.ClapProcessor.from_pretrained(folder)
  features = processor.feature_extractor(
    clip[4 * RATE_HZ : 5 * RATE_HZ],
    sampling_rate=RATE_HZ,
    return_tensors='pt',
  )
  with torch.no_grad():
    wanted = model.get_audio_features(**features).pooler_output[0].numpy()
  np.testing.assert_allclose(found[4], wanted, atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
  assert np.abs(found[0] - found[4]).max() > 1e-3


@pytest.mark.slow
def test_texts_stand_beside_audio_whatever_they_are_padded_to(ear):
  found = ear.embed_text(['slow piano', 'a very much longer text of a harp'])
  assert found.shape == (2, DIM)
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(
    found[0], ear.embed_text(['slow piano'])[0], atol=1e-5
  )
  assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.slow
def test_it_says_what_it_is(ear, folder):
  assert (ear.sample_rate_hz, ear.window_seconds, ear.dim) == (
    RATE_HZ,
    SECONDS,
    DIM,
  )
  weights = (folder / 'model.safetensors').read_bytes()
  assert ear.weights_sha256 == hashlib.sha256(weights).hexdigest()


def test_no_window_is_taken_for_a_part_of_a_longer_clip(tmp_path):
  save(tmp_path, is_fused=True)
  ear = clap.load(tmp_path)
  clip = np.tile(_clip(RATE_HZ), 3)
  found = ear.embed(clip)
  # The extractor of a model with fusion would draw one of the three.
  np.testing.assert_allclose(found[1:], found[:2], atol=1e-6)
  features = ear._processor.feature_extractor(
    list(clip.reshape(3, -1)), sampling_rate=RATE_HZ, return_tensors='pt'
  )
  assert features['is_longer'].sum() == 1
  drawn = clap._unit(ear._model.get_audio_features(**features))
  assert np.abs(drawn - found).max() > 1e-3


def test_a_weight_that_is_not_there_is_not_drawn_at_random(tmp_path):
  save(tmp_path)
  path = tmp_path / 'model.safetensors'
  whole = safetensors.numpy.load_file(path)
  name = 'audio_projection.linear1.weight'
  for wrong in ({}, {name: whole[name][:, 1:]}):
    weights = {k: v for k, v in whole.items() if k != name} | wrong
    safetensors.numpy.save_file(weights, path, metadata={'format': 'pt'})
    with pytest.raises(ValueError, match=f"lack '{name}'.* and 0 more"):
      clap.load(tmp_path)


def test_a_folder_without_a_model_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='save_pretrained'):
    clap.load(str(tmp_path))
