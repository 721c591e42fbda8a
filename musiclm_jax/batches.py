# SPDX-License-Identifier: Apache-2.0
"""The keys of a batch, one place for data converters, objectives and tests.

A batch is a flat dictionary of arrays whose first axis is the batch. It is
always the *global* batch: sharding is the trainer's business.
"""

# Audio batches (codec, semantic model, MuLan).
WAVEFORM = 'waveform'  # float32 [batch, samples], in [-1, 1]
SAMPLE_MASK = 'sample_mask'  # bool [batch, samples], False over padding

# Token batches (stages).
TOKENS = 'tokens'  # int32 [batch, length]
LOSS_MASK = 'loss_mask'  # bool [batch, length], True where a loss is taken
