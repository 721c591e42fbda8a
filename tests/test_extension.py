# SPDX-License-Identifier: Apache-2.0
"""A data set, a codec, a tokenizer, a conditioner and a stage of one's own.

Everything below is what a user would write, without editing the package: a toy
of each kind is trained for ten steps from a corpus on disk (the tokenizer and the
conditioner have nothing to train), published and loaded.
"""

import dataclasses
import fractions

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from musiclm_jax import axes, batches
from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec.base import load_codec
from musiclm_jax.conditioning.base import Conditioner, load_conditioner
from musiclm_jax.data import loader, sources, token_loader, token_writer, writer
from musiclm_jax.data.corpus import AudioCorpus
from musiclm_jax.layers.parameters import param
from musiclm_jax.metrics import Evaluation, LossOutput, WeightedMean
from musiclm_jax.semantic.base import SemanticTokenizer, load_semantic
from musiclm_jax.stages.layout import StageLayout
from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.streams import TokenStream
from musiclm_jax.training import hooks, loop, metrics_writer, optimizers
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training

RATE_HZ = 8000
HOP = 40
LEVELS = 2
CODES = 16


# A data set: one class.
@dataclasses.dataclass(frozen=True)
class Beeps:
  """Two seconds of one pitch each."""

  name: str = 'beeps'

  def clips(self):
    return [
      sources.ClipRef(
        id=str(pitch_hz),
        split='validation' if pitch_hz % 50 == 0 else 'train',
        group=str(pitch_hz),
      )
      for pitch_hz in range(410, 610, 10)
    ]

  def load(self, ref):
    phase = 2 * np.pi * int(ref.id) * np.arange(2 * RATE_HZ) / RATE_HZ
    return sources.Clip(
      waveform=(0.5 * np.sin(phase)).astype(np.float32),
      sample_rate_hz=RATE_HZ,
      captions=(f'A beep at {ref.id} Hz.',),
    )


# A codec: a config, a module, what the rest of the package sees, an objective.
@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundingConfig:
  """A linear map of each frame to numbers that are rounded."""

  num_levels: int = LEVELS

  @property
  def stream(self):
    return TokenStream(
      name='acoustic',
      rate_hz=fractions.Fraction(RATE_HZ, HOP),
      num_codebooks=self.num_levels,
      codebook_size=CODES,
    )

  def make_codec(self, weights, *, stream):
    return RoundingCodec(self, weights, stream)


class Rounding(nn.Module):
  config: RoundingConfig

  def setup(self):
    def kernel(name, shape, names):
      init = nn.initializers.normal(0.1)
      return param(self, name, init, shape, jnp.float32, axes=names)

    shape = (HOP, self.config.num_levels)
    self.analysis = kernel('analysis', shape, (axes.EMBED, axes.LEVELS))
    self.synthesis = kernel('synthesis', shape[::-1], (axes.LEVELS, axes.EMBED))

  def latents(self, waveform):
    frames = waveform.reshape(waveform.shape[0], -1, HOP)
    return CODES / 2 * (1 + jnp.tanh(frames @ self.analysis)) - 0.5

  def encode(self, waveform):
    return jnp.round(self.latents(waveform)).astype(jnp.int32)

  def decode(self, codes):
    values = (codes + 0.5) * 2 / CODES - 1
    frames = values @ self.synthesis[: codes.shape[-1]]
    return frames.reshape(codes.shape[0], -1)

  def __call__(self, waveform):
    latents = self.latents(waveform)
    rounded = jnp.round(latents)
    return self.decode(latents + jax.lax.stop_gradient(rounded - latents))


class RoundingCodec:
  """A `Codec`."""

  def __init__(self, config, weights, stream):
    weights = jax.tree.map(jnp.asarray, weights)
    self._apply = lambda *args, method: Rounding(config).apply(
      weights, *args, method=method
    )
    self.stream = stream
    self.sample_rate_hz = RATE_HZ
    self.hop_samples = HOP

  def encode(self, waveform, *, sample_rate_hz, num_levels=None):
    assert sample_rate_hz == RATE_HZ
    return self._apply(waveform, method='encode')[..., :num_levels]

  def decode(self, codes):
    return self._apply(codes, method='decode')


class RoundingObjective:
  """Squared error over what is not padding."""

  batch_is_coupled = False

  def __init__(self, config):
    self.config = config

  def init(self, key, batch):
    return Rounding(self.config).init(key, batch[batches.WAVEFORM])

  def loss(self, variables, batch, key):
    made = Rounding(self.config).apply(variables, batch[batches.WAVEFORM])
    error = (made - batch[batches.WAVEFORM]) ** 2
    return LossOutput(WeightedMean.of(error, batch[batches.SAMPLE_MASK]))

  def evaluate(self, variables, batch, key):
    loss = self.loss(variables, batch, key).loss
    made = Rounding(self.config).apply(variables, batch[batches.WAVEFORM])
    return Evaluation({'loss': loss}, waveforms={'reconstruction': made})

  def bundle(self, variables):
    return bundle.BundleContents(
      kind='codec',
      config=self.config,
      weights=variables,
      stream_out=self.config.stream,
    )


# A semantic tokenizer: a config, and what the rest of the package sees.
@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossingsConfig:
  """Few or many zero crossings in a tenth of a second."""

  @property
  def stream(self):
    return TokenStream(
      name='semantic', rate_hz=10, num_codebooks=1, codebook_size=2
    )

  def make_tokenizer(self, weights, *, stream):
    return Crossings(weights['params']['threshold'], stream)


class Crossings:
  """A `SemanticTokenizer`."""

  sample_rate_hz = RATE_HZ

  def __init__(self, threshold, stream):
    self.threshold, self.stream = threshold, stream

  def encode(self, waveform, *, sample_rate_hz):
    frames = np.atleast_2d(waveform).reshape(-1, 20, sample_rate_hz // 10)
    crossings = (np.diff(np.sign(frames), axis=-1) != 0).sum(-1)
    return (crossings > self.threshold).astype(np.int32)


# A conditioner: a config, and what the rest of the package sees.
@dataclasses.dataclass(frozen=True, kw_only=True)
class LoudnessConfig:
  """Loud or soft, of music and of the words for it."""

  @property
  def stream(self):
    return TokenStream(
      name='loudness', rate_hz=None, num_codebooks=1, codebook_size=2
    )

  def make_conditioner(self, weights, *, stream):
    return Loudness(weights['params']['threshold'], stream)


class Loudness:
  """A `Conditioner`."""

  sample_rate_hz = RATE_HZ
  embed_dim = 2

  def __init__(self, threshold, stream):
    self.threshold, self.stream = threshold, stream

  def embed_windows(self, waveform, *, sample_rate_hz):
    return self.embed_audio(waveform[None], sample_rate_hz=sample_rate_hz)

  def embed_audio(self, waveform, *, sample_rate_hz):
    loud = np.abs(waveform).max(axis=1) > self.threshold
    return np.eye(2, dtype=np.float32)[loud.astype(int)]

  def embed_text(self, texts):
    return np.eye(2, dtype=np.float32)[[int('loud' in t) for t in texts]]

  def quantize(self, embeddings):
    return np.argmax(embeddings, axis=-1).astype(np.int32)[:, None, None]

  def encode_audio(self, waveform, *, sample_rate_hz):
    return self.quantize(
      self.embed_audio(waveform, sample_rate_hz=sample_rate_hz)
    )

  def encode_text(self, texts):
    return self.quantize(self.embed_text(texts))


# A stage: a declaration over streams, and here a model of its own too.
def refine(*, acoustic):
  """The first level of a codec to the others, a second at a time."""
  return StageSpec(
    name='refine',
    inputs=(Take(stream=acoustic, count=1),),
    output=Take(stream=acoustic, first=1),
    window_seconds=1,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BigramConfig:
  num_ids: int


class BigramObjective:
  """Each token from the one before it."""

  batch_is_coupled = False

  def __init__(self, layout, *, trained_on):
    self.layout = layout
    self.trained_on = trained_on

  def init(self, key, batch):
    shape = (self.layout.num_ids, self.layout.num_ids)
    zeros = nn.with_logical_partitioning(jnp.zeros, (axes.VOCAB, axes.EMBED))
    return {'params': {'logits': zeros(shape)}}

  def loss(self, variables, batch, key):
    tokens = batch[batches.TOKENS]
    logits = jax.nn.log_softmax(variables['params']['logits'])[tokens[:, :-1]]
    targets = tokens[:, 1:, None]
    nats = -jnp.take_along_axis(logits, targets, axis=-1)[..., 0]
    return LossOutput(WeightedMean.of(nats, batch[batches.LOSS_MASK][:, 1:]))

  def evaluate(self, variables, batch, key):
    return Evaluation({'loss': self.loss(variables, batch, key).loss})

  def bundle(self, variables):
    take = self.layout.spec.output
    return bundle.BundleContents(
      kind='stage',
      config=BigramConfig(num_ids=self.layout.num_ids),
      weights=variables,
      stream_out=take.stream,
      streams_in=(take.stream,),
      trained_on=self.trained_on,
    )


# What makes the codes of a corpus: streams, what their codes stand for, and an
# `encode`.
class Coder:
  """A `ClipEncoder` of a codec alone."""

  def __init__(self, codec):
    self.codec = codec
    self.streams = (codec.stream,)
    self.codebooks = {}

  def encode(self, waveform, *, sample_rate_hz, condition_seconds):
    codes = self.codec.encode(waveform[None], sample_rate_hz=sample_rate_hz)
    return {self.codec.stream.name: np.asarray(codes)[0]}


class Rows:
  """A `BatchSource` of a stage's rows."""

  def __init__(self, crops, layout):
    self.crops, self.layout = crops, layout
    self.batch_size = crops.batch_size

  def batches(self, start, **processes):
    for batch in self.crops.batches(start, **processes):
      tokens = self.layout.pack(
        {
          name: batch[batches.codes_key(name)]
          for name in self.layout.spec.streams
        }
      )
      yield {
        batches.TOKENS: tokens,
        batches.LOSS_MASK: self.layout.loss_mask(tokens),
      }


def train(model_dir, objective, batches_of, *, learning_rate=0.1):
  """Ten steps on a mesh; the losses of the first and of the last."""
  loop.train(
    model_dir=str(model_dir),
    training=Training(
      objective=objective,
      optimizer=optimizers.adam(learning_rate=learning_rate),
    ),
    batches=batches_of('train', 'random'),
    num_steps=10,
    save_every_steps=5,
    log_every_steps=1,
    partitioner=Partitioner(data=2, fsdp=2, tensor=2),
    hooks=[
      hooks.Evaluate(batches_of('validation', 'fixed'), every_steps=5),
      hooks.Publish(),
    ],
  )
  path = model_dir / 'metrics' / metrics_writer.FILE_NAME
  lines = list(metrics_writer.read(path))
  assert any('evaluate/loss' in line for line in lines)
  losses = [line['train/loss'] for line in lines if 'train/loss' in line]
  assert len(losses) == 10
  return losses[0], losses[-1]


def test_toys_of_every_kind_are_trained_from_one_file(tmp_path):
  corpus = tmp_path / 'corpus'
  info = writer.write_corpus(
    Beeps(), corpus, sample_rate_hz=RATE_HZ, num_workers=0, show_progress=False
  )
  assert info.source == 'beeps'

  def audio_of(split, crops):
    return loader.AudioBatches(
      corpus, split=split, crops=crops, window_seconds=1, batch_size=8
    )

  config = RoundingConfig()
  first, last = train(
    tmp_path / 'codec',
    RoundingObjective(config),
    audio_of,
  )
  assert last < first / 2

  codec = load_codec(tmp_path / 'codec')
  assert codec.stream.fingerprint == bundle.load(tmp_path / 'codec').fingerprint
  beep = Beeps().load(Beeps().clips()[-1]).waveform[None]
  codes = codec.encode(beep, sample_rate_hz=RATE_HZ)
  assert codes.shape == (1, 400, LEVELS)
  assert np.mean((codec.decode(codes) - beep) ** 2) < np.mean(beep**2)

  layout = StageLayout(spec=refine(acoustic=codec.stream))
  tokens = tmp_path / 'tokens'
  info = token_writer.write_token_corpus(
    AudioCorpus(corpus), Coder(codec), tokens, show_progress=False
  )
  assert info.streams == (codec.stream,)

  def codes_of(split, crops):
    return token_loader.TokenBatches(
      tokens, spec=layout.spec, split=split, crops=crops, batch_size=8
    )

  first, last = train(
    tmp_path / 'stage',
    BigramObjective(layout, trained_on={'acoustic': codec.stream.fingerprint}),
    lambda *which: Rows(codes_of(*which), layout),
    learning_rate=1.0,
  )
  assert last < 0.8 * first
  stage = bundle.load(tmp_path / 'stage', kind='stage')
  assert stage.trained_on == {'acoustic': codec.stream.fingerprint}
  assert stage.streams_in == (codec.stream,)


def test_a_tokenizer_of_ones_own_is_loaded_by_its_config_alone(tmp_path):
  config = CrossingsConfig()
  fingerprint = bundle.publish(
    tmp_path,
    bundle.BundleContents(
      kind='semantic',
      config=config,
      weights={'params': {'threshold': np.float32(100)}},  # 500 Hz.
      stream_out=config.stream,
    ),
  )
  loaded = load_semantic(tmp_path)
  assert isinstance(loaded, SemanticTokenizer)
  assert loaded.stream.fingerprint == fingerprint
  clips = Beeps().clips()
  low, high = (Beeps().load(clips[place]).waveform for place in (0, -1))
  codes = loaded.encode(np.stack([low, high]), sample_rate_hz=RATE_HZ)
  np.testing.assert_array_equal(codes, [[0] * 20, [1] * 20])


def test_a_conditioner_of_ones_own_is_loaded_by_its_config_alone(tmp_path):
  config = LoudnessConfig()
  fingerprint = bundle.publish(
    tmp_path,
    bundle.BundleContents(
      kind='conditioner',
      config=config,
      weights={'params': {'threshold': np.float32(0.25)}},
      stream_out=config.stream,
    ),
  )
  loaded = load_conditioner(tmp_path)
  assert isinstance(loaded, Conditioner)
  assert loaded.stream == dataclasses.replace(
    config.stream, fingerprint=fingerprint
  )
  beep = Beeps().load(Beeps().clips()[0]).waveform
  heard = loaded.encode_audio(
    np.stack([0.1 * beep, beep]), sample_rate_hz=RATE_HZ
  )
  read = loaded.encode_text(['a soft beep', 'a loud beep'])
  np.testing.assert_array_equal(heard, [[[0]], [[1]]])
  np.testing.assert_array_equal(heard, read)
