# SPDX-License-Identifier: Apache-2.0
"""Six untrained bundles that are one tiny MusicLM.

A second has 5 semantic frames, 10 acoustic frames and 60 samples, so a tick is
0.2 s; windows are of 6, 4 and 1.4 s.
"""

import dataclasses
import zlib

import jax
import numpy as np
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec import soundstream
from musiclm_jax.conditioning import base as conditioning
from musiclm_jax.inference import assembly
from musiclm_jax.inference.sampling import Categorical
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.quantization import residual
from musiclm_jax.semantic import base as semantic_base
from musiclm_jax.stages import coarse, fine, lm, semantic
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.streams import TokenStream

RATE_HZ = 60
EMBED_DIM = 7

MULAN = TokenStream(
  name='mulan', rate_hz=None, num_codebooks=3, codebook_size=17
)
SEMANTIC = TokenStream(
  name='semantic', rate_hz=5, num_codebooks=1, codebook_size=13
)
CODEC = soundstream.SoundStreamConfig(
  sample_rate_hz=RATE_HZ,
  channels=5,
  strides=(2, 3),
  embed_dim=7,
  quantizer=residual.ResidualQuantizerConfig(num_levels=5, codebook_size=11),
)

# What a model may state as its own.
GUIDED = SamplingConfig(
  guidance_scale=3.0, coarse=Categorical(temperature=0.9, top_k=7)
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConditionerConfig:
  def make_conditioner(self, weights, *, stream):
    return ToyConditioner(stream, weights['params']['directions'])


class ToyConditioner:
  """A text's embedding is drawn from its characters, a clip's from its ends."""

  sample_rate_hz = RATE_HZ
  embed_dim = EMBED_DIM

  def __init__(self, stream, directions):
    self.stream, self.directions = stream, directions

  def embed_windows(self, waveform, *, sample_rate_hz):
    return self.embed_audio(waveform[None], sample_rate_hz=sample_rate_hz)

  def embed_audio(self, waveform, *, sample_rate_hz):
    assert sample_rate_hz
    return _unit(waveform[:, :EMBED_DIM] + 1e-3)

  def embed_text(self, texts):
    draws = [np.random.default_rng(zlib.crc32(text.encode())) for text in texts]
    return _unit(np.stack([draw.normal(size=EMBED_DIM) for draw in draws]))

  def quantize(self, embeddings):
    size = self.stream.codebook_size
    shares = (1 + embeddings @ self.directions) / 2
    codes = np.clip(size * shares, 0, size - 1)
    return codes.astype(np.int32)[:, None]

  def encode_audio(self, waveform, *, sample_rate_hz):
    return self.quantize(
      self.embed_audio(waveform, sample_rate_hz=sample_rate_hz)
    )

  def encode_text(self, texts):
    return self.quantize(self.embed_text(texts))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyTokenizerConfig:
  def make_tokenizer(self, weights, *, stream):
    return ToyTokenizer(stream, weights['params']['scale'])


class ToyTokenizer:
  """A code is how loud its frame is."""

  sample_rate_hz = RATE_HZ

  def __init__(self, stream, scale):
    self.stream, self.scale = stream, scale

  def encode(self, waveform, *, sample_rate_hz):
    hop = int(sample_rate_hz / self.stream.rate_hz)
    waveform = np.atleast_2d(waveform)
    missing = -waveform.shape[1] % hop
    frames = np.pad(waveform, ((0, 0), (0, missing)))
    frames = frames.reshape(len(frames), -1, hop)
    codes = self.scale * np.abs(frames).mean(axis=-1)
    return np.clip(codes, 0, self.stream.codebook_size - 1).astype(np.int32)


def _unit(rows):
  rows = np.asarray(rows, np.float32)
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def publish_audiolm(directory):
  """Five bundles whose stages read no condition, as one model."""
  folders = {name: directory / name for name in assembly.TOKENIZERS}
  streams = publish_tokenizers(folders) | {'mulan': None}
  stages = {name: directory / 'stages' / name for name in assembly.STAGES}
  for spec in specs(**streams):
    publish_stage(stages[spec.name], spec)
  del folders['mulan']
  assembly.write(directory, **folders, stages=stages)


def publish(directory, *, seed=0):
  """Publishes all six and writes `music_lm.json`; gives back the folders."""
  folders = {name: directory / name for name in assembly.TOKENIZERS}
  streams = publish_tokenizers(folders, seed=seed)
  stages = {name: directory / 'stages' / name for name in assembly.STAGES}
  for number, spec in enumerate(specs(**streams)):
    publish_stage(stages[spec.name], spec, seed=seed + number)
  assembly.write(directory, **folders, stages=stages)
  return {**folders, 'stages': stages}


def restate(model, directory, *, sampling):
  """Writes the same bundles as a model that wants to be sampled like this."""
  made = assembly.read(model)
  assembly.write(
    directory, **made.tokenizers, stages=made.stages, sampling=sampling
  )


def publish_tokenizers(folders, *, seed=0):
  """Publishes those that make codes; their streams, by name."""
  draws = np.random.default_rng(seed)
  key = jax.random.key(seed)
  codec = jax.jit(soundstream.SoundStream(CODEC).init)(
    key, np.zeros((1, 30), np.float32), key=key
  )
  directions = _unit(draws.normal(size=(MULAN.num_codebooks, EMBED_DIM))).T
  parts = {
    'codec': ('codec', CODEC, codec, CODEC.stream),
    'semantic': (
      semantic_base.TOKENIZER,
      ToyTokenizerConfig(),
      {'params': {'scale': np.float32(12 + seed)}},
      SEMANTIC,
    ),
    'mulan': (
      conditioning.CONDITIONER,
      ToyConditionerConfig(),
      {'params': {'directions': directions}},
      MULAN,
    ),
  }
  streams = {}
  for name, (kind, config, weights, stream) in parts.items():
    contents = bundle.BundleContents(
      kind=kind, config=config, weights=weights, stream_out=stream
    )
    fingerprint = bundle.publish(folders[name], contents)
    streams[stream.name] = dataclasses.replace(stream, fingerprint=fingerprint)
  return streams


def specs(*, mulan, semantic, acoustic):
  """The three stages over these streams."""
  conditions = [mulan] if mulan else []
  return (
    semantic_stage(conditions=conditions, semantic=semantic, window_seconds=6),
    coarse.coarse(
      conditions=conditions,
      semantic=semantic,
      acoustic=acoustic,
      num_levels=2,
      window_seconds=4,
    ),
    fine.fine(acoustic=acoustic, num_coarse_levels=2, window_seconds='1.4'),
  )


semantic_stage = semantic.semantic


def publish_stage(directory, spec, *, seed=0):
  """An untrained stage, but one whose condition is heard."""
  objective = StageObjective(
    model=lm.StageLMConfig(
      spec=spec,
      transformer=TransformerConfig(
        num_layers=2, num_heads=2, embed_dim=16, mlp_dim=13
      ),
    )
  )
  codes = {
    batches.codes_key(name): np.zeros(
      (1, stream.num_frames(spec.window_seconds), stream.num_codebooks),
      np.int32,
    )
    for name, stream in spec.streams.items()
  }
  variables = meta.unbox(jax.jit(objective.init)(jax.random.key(seed), codes))
  params = variables['params']
  params['logit_table'] *= 4
  for layer in range(2):
    params['transformer'][f'layer_{layer}']['attention']['out']['kernel'] *= 16
  bundle.publish(directory, objective.bundle(variables))
