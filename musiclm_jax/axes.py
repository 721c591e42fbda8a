# SPDX-License-Identifier: Apache-2.0
"""The one vocabulary of array axes: comments, types and sharding rules use it.

Activations lead with `BATCH`, then time, then channels. Einsum letters are the
same everywhere: b batch, n samples, t frames, q levels, s length (r for the
attended length), d embed, h heads, k head dim, f mlp, v vocab, m mel bins.
"""

# Of activations.
BATCH = 'batch'  # independent examples
SAMPLES = 'samples'  # waveform time
FRAMES = 'frames'  # code time, at the stream's rate
LEVELS = 'levels'  # residual codebooks, coarsest first
LENGTH = 'length'  # position in a stage's flat token sequence
MELS = 'mels'  # mel filterbank bins

# Of parameters.
EMBED = 'embed'  # model width
MLP = 'mlp'  # hidden width of a feed-forward layer
HEADS = 'heads'  # attention heads
KV = 'kv'  # width of one head
VOCAB = 'vocab'  # a stage's whole vocabulary
CODEBOOK = 'codebook'  # entries of one codebook
KERNEL = 'kernel'  # taps of a convolution
CHANNELS_IN = 'channels_in'  # convolution input
CHANNELS_OUT = 'channels_out'  # convolution output
LAYERS = 'layers'  # added by scan over layers

# Every axis a parameter may carry; sharding rules must name each of them.
PARAMETER_AXES = (
  LEVELS,
  EMBED,
  MLP,
  HEADS,
  KV,
  VOCAB,
  CODEBOOK,
  KERNEL,
  CHANNELS_IN,
  CHANNELS_OUT,
  LAYERS,
)
