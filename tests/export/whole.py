# SPDX-License-Identifier: Apache-2.0
"""Six untrained bundles of the real kinds that are one tiny MusicLM.

A second has 25 semantic frames, 10 acoustic frames and 60 samples, so a tick is
0.2 s; windows are of 2, 1.2 and 0.6 s.
"""

import dataclasses

import numpy as np

from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec import soundstream
from musiclm_jax.conditioning import base as conditioning
from musiclm_jax.conditioning import mulan as mulan_conditioning
from musiclm_jax.export import folder
from musiclm_jax.inference import assembly
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.quantization import residual
from musiclm_jax.stages import coarse, fine, lm, semantic
from tests.inference import toys as inference_toys
from tests.mulan import toys as mulan_toys
from tests.semantic import toy_tokenizer

# Of different codes, untrained as the towers are.
PROMPTS = ('a low and long tone', 'a high and bright tone')


def publish(directory, *, is_conditioned=True):
  """Publishes all and writes `music_lm.json`; an AudioLM if not conditioned."""
  tokenizers = {'codec': codec()}
  if is_conditioned:
    tokenizers['mulan'] = conditioner()
  folders = {name: directory / name for name in (*tokenizers, 'semantic')}
  fingerprints = {'semantic': toy_tokenizer.publish(folders['semantic'])}
  streams = {'semantic': toy_tokenizer.CONFIG.stream}
  for name, contents in tokenizers.items():
    stream = contents.stream_out
    fingerprints[stream.name] = bundle.publish(folders[name], contents)
    streams[stream.name] = stream
  streams = {
    name: dataclasses.replace(stream, fingerprint=fingerprints[name])
    for name, stream in streams.items()
  }
  stages = {name: directory / 'stages' / name for name in assembly.STAGES}
  for number, spec in enumerate(specs(**streams)):
    bundle.publish(stages[spec.name], stage(spec, seed=number))
  assembly.write(directory, **folders, stages=stages)


def export(model, directory):
  """Writes the folder of PyTorch, compared with nothing."""
  with folder.staged(directory) as staging:
    folder.write(staging, folder.read(model))


def export_component(contents, directory):
  """One bundle, published and exported; its folder."""
  bundle.publish(directory / 'bundle', contents)
  folder.write_component(bundle.load(directory / 'bundle'), directory / 'torch')
  return directory / 'torch'


def codec():
  config = inference_toys.CODEC
  variables = mulan_toys.fill(
    soundstream.SoundStream(config).init,
    np.zeros((1, 30), np.float32),
    key=np.zeros(2, np.uint32),
  )
  return bundle.BundleContents(
    kind='codec', config=config, weights=variables, stream_out=config.stream
  )


def conditioner(*, body=None, seed=2):
  """MuLan with towers of one block."""
  towers = mulan_toys.config(body=body)
  config = mulan_conditioning.MuLanConditionerConfig(
    towers=towers,
    quantizer=residual.ResidualQuantizerConfig(num_levels=3, codebook_size=17),
  )
  draws = np.random.default_rng(seed)
  embeddings = 0.3 * draws.normal(size=(3, 17, towers.embed_dim))
  return bundle.BundleContents(
    kind=conditioning.CONDITIONER,
    config=config,
    weights={
      mulan_conditioning.TOWERS: mulan_toys.fill(towers.init, seed=seed),
      mulan_conditioning.QUANTIZER: {
        'codebooks': {
          'embeddings': embeddings.astype(np.float32),
          'counts': np.ones((3, 17), np.float32),
          'initialised': np.bool_(True),
        }
      },
    },
    stream_out=config.stream,
  )


def specs(*, semantic, acoustic, mulan=None):
  """The three stages over these streams."""
  conditions = [] if mulan is None else [mulan]
  return (
    semantic_stage(conditions=conditions, semantic=semantic, window_seconds=2),
    coarse.coarse(
      conditions=conditions,
      semantic=semantic,
      acoustic=acoustic,
      num_levels=2,
      window_seconds='1.2',
    ),
    fine.fine(acoustic=acoustic, num_coarse_levels=2, window_seconds='0.6'),
  )


semantic_stage = semantic.semantic


def stage(spec, *, seed=0, **sizes):
  """An untrained stage that hears its condition."""
  sizes = {
    'num_layers': 2,
    'num_heads': 2,
    'embed_dim': 16,
    'mlp_dim': 13,
  } | sizes
  config = lm.StageLMConfig(spec=spec, transformer=TransformerConfig(**sizes))
  tokens = np.zeros((1, config.layout.length), np.int32)
  return bundle.BundleContents(
    kind='stage',
    config=config,
    weights=mulan_toys.fill(lm.StageLM(config).init, tokens, seed=seed),
    stream_out=None,
    streams_in=tuple(spec.streams.values()),
  )
