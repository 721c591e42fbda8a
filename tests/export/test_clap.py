# SPDX-License-Identifier: Apache-2.0
"""A tiny CLAP with random weights, by the names of LAION's own code."""

import json
import stat

import librosa
import numpy as np
import pytest
import torch
import transformers

from musiclm_jax.evaluation.embedders import clap as ear_of
from musiclm_jax.export import clap

DIM, NUM_WORDS = 14, 31


def tiny(*, is_fused):
  torch.manual_seed(0)
  config = transformers.ClapConfig(
    text_config={
      'vocab_size': NUM_WORDS,
      'hidden_size': 128,  # Two heads.
      'num_hidden_layers': 2,
      'num_attention_heads': 2,
      'intermediate_size': 12,
      'max_position_embeddings': 83,
      'layer_norm_eps': 1e-5,
    },
    audio_config={
      'patch_embeds_hidden_size': 8,
      'hidden_size': 16,
      'depths': [1, 2],
      'num_attention_heads': [2, 4],
      'num_hidden_layers': 2,
      'enable_fusion': is_fused,
      'fusion_type': 'aff_2d' if is_fused else None,
    },
    projection_dim=DIM,
  )
  model = transformers.ClapModel(config).eval().requires_grad_(False)
  for name, tensor in model.state_dict().items():
    if tensor.is_floating_point():  # Running variances are above zero.
      tensor.copy_(torch.rand_like(tensor) + ('var' in name))
  return model


def of_laion(model):
  """By hand: what the names are in `laion_clap`, and what else it stores."""
  weights = dict(model.state_dict())
  del weights['text_model.embeddings.token_type_ids']
  state = {}
  for name in [name for name in weights if '.self.query.' in name]:
    if not name.startswith('audio'):
      continue
    parts = [weights.pop(name.replace('query', p)) for p in ('query', 'key')]
    parts.append(weights.pop(name.replace('query', 'value')))
    weights[name.replace('self.query', 'self.qkv')] = torch.cat(parts)
  for name, tensor in weights.items():
    if name.startswith('audio_model'):
      for new, old in {
        'audio_model.audio_encoder': 'audio_branch',
        'batch_norm': 'bn0',
        'layernorm_before': 'norm1',
        'layernorm_after': 'norm2',
        'intermediate.dense': 'mlp.fc1',
        'attention.output.dense': 'attn.proj',
        'attention.self': 'attn',
        'output.dense': 'mlp.fc2',
      }.items():
        name = name.replace(new, old)
    name = name.replace('text_model.', 'text_branch.')
    name = name.replace('linear1', '0').replace('linear2', '2')
    state[name] = tensor
  for branch in ('audio', 'text'):
    for layer in (0, 3):
      state[f'{branch}_transform.sequential.{layer}.weight'] = torch.ones(2, 2)
      state[f'{branch}_transform.sequential.{layer}.bias'] = torch.ones(2)
  filters = librosa.filters.mel(
    sr=48_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000
  )
  return state | {
    'audio_branch.logmel_extractor.melW': torch.tensor(filters.T),
    'audio_branch.spectrogram_extractor.stft.conv_real.weight': torch.ones(3),
    'audio_branch.spectrogram_extractor.stft.conv_imag.weight': torch.ones(3),
    'audio_branch.layers.1.blocks.1.attn_mask': torch.ones(3),
    'audio_branch.tscam_conv.weight': torch.ones(2),
    'audio_branch.head.bias': torch.ones(2),
  }


def checkpoint(path, state):
  """As the authors' training saves it, with the rate of an optimizer."""
  torch.save(
    {
      'epoch': 15,
      'state_dict': {f'module.{k}': v for k, v in state.items()},
      'optimizer': {'param_groups': [{'lr': np.float64(1e-4)}]},
    },
    path,
  )
  return path


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  folder = tmp_path_factory.mktemp('roberta')
  letters = [chr(n) for n in range(ord('a'), ord('z'))] + ['Ġ']
  words = ['<s>', '<pad>', '</s>', '<unk>', '<mask>', *letters]
  assert len(words) == NUM_WORDS
  text = json.dumps({word: n for n, word in enumerate(words)})
  (folder / 'vocab.json').write_text(text)
  (folder / 'merges.txt').write_text('#version: 0.2\n')
  return folder


@pytest.fixture(scope='module')
def state():
  return of_laion(tiny(is_fused=False))


@pytest.mark.parametrize('is_fused', [False, True])
def test_a_checkpoint_comes_back_as_the_model_that_it_was(
  is_fused, tokenizer, tmp_path
):
  model = tiny(is_fused=is_fused)
  state = of_laion(model)
  assert 'audio_branch.layers.1.blocks.1.attn.qkv.bias' in state
  assert ('audio_branch.patch_embed.mel_conv2d.bias' in state) == is_fused
  path = checkpoint(tmp_path / 'best.pt', state)
  sha256 = clap.convert(path, tmp_path / 'clap', tokenizer=tokenizer)

  ear = ear_of.load(tmp_path / 'clap')
  found = ear._model.state_dict()
  for name, tensor in model.state_dict().items():
    torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=name)
  assert (ear.sample_rate_hz, ear.window_seconds, ear.dim) == (48_000, 10, DIM)
  assert ear._model.config.audio_config.enable_fusion == is_fused
  extractor = ear._processor.feature_extractor
  assert extractor.truncation == ('fusion' if is_fused else 'rand_trunc')
  tokens = ear._processor.tokenizer(['a' * 99, 'b'], truncation=True)
  assert [len(row) for row in tokens.input_ids] == [77, 3]
  wanted = model.get_text_features(
    input_ids=torch.tensor([[0, 6, 2]]), attention_mask=torch.ones(1, 3)
  )
  np.testing.assert_allclose(
    ear.embed_text(['b']), ear_of._unit(wanted), atol=1e-5
  )
  noise = np.random.default_rng(0).normal(0, 0.1, 480_000).astype(np.float32)
  features = extractor(noise, sampling_rate=48_000, return_tensors='pt')
  wanted = model.get_audio_features(
    features.input_features, is_longer=torch.tensor([[False]])
  )
  np.testing.assert_allclose(ear.embed(noise), ear_of._unit(wanted), atol=1e-5)

  readme = (tmp_path / 'clap' / clap.README).read_text()
  assert f'| `best.pt` | `{sha256}` |' in readme and 'licence' in readme
  mode = (tmp_path / 'clap' / 'model.safetensors').stat().st_mode
  assert mode & stat.S_IRUSR and mode == (path.stat().st_mode)


def test_what_is_no_clap_of_laion_is_one_line_and_leaves_nothing(
  state, tokenizer, tmp_path
):
  lost = 'audio_branch.layers.1.blocks.0.mlp.fc1.bias'
  words = 'text_branch.embeddings.word_embeddings.weight'
  filters = 'audio_branch.logmel_extractor.melW'
  scale = 'logit_scale_a'
  for change, message in (
    ({lost: None}, "It lacks '.*intermediate.dense.bias' and 0 more"),
    ({'audio_branch.other': torch.ones(2)}, "an unknown '.*other' and 0 more"),
    ({scale: torch.ones(2)}, f"Of another shape is '{scale}'"),
    ({words: None}, 'no CLAP of HTS-AT .* It has no .*word_embeddings'),
    ({filters: None}, 'another filter bank'),
    ({filters: 2 * state[filters]}, 'another filter bank'),
  ):
    changed = {k: v for k, v in (state | change).items() if v is not None}
    path = checkpoint(tmp_path / 'best.pt', changed)
    with pytest.raises(ValueError, match=message) as error:
      clap.convert(path, tmp_path / 'clap', tokenizer=tokenizer)
    assert '\n' not in str(error.value)
  with pytest.raises(ValueError, match='is no file; name a checkpoint'):
    clap.convert(tmp_path, tmp_path / 'clap', tokenizer=tokenizer)
  assert [path.name for path in tmp_path.iterdir()] == ['best.pt']


def test_the_tokenizer_is_wanted_whole_and_with_as_many_words(
  state, tokenizer, tmp_path
):
  path = checkpoint(tmp_path / 'best.pt', state)
  with pytest.raises(ValueError, match='no vocab.json and no merges.txt; give'):
    clap.convert(path, tmp_path / 'clap', tokenizer=tmp_path)
  words = json.loads((tokenizer / 'vocab.json').read_text())
  (tmp_path / 'vocab.json').write_text(json.dumps(words | {'more': NUM_WORDS}))
  (tmp_path / 'merges.txt').write_text('#version: 0.2\n')
  with pytest.raises(ValueError, match='has 32 words, and the checkpoint 31'):
    clap.convert(path, tmp_path / 'clap', tokenizer=tmp_path)
  assert not (tmp_path / 'clap').exists()
