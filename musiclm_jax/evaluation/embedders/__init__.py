# SPDX-License-Identifier: Apache-2.0
"""What listens for the metrics: models that others trained, and ours.

`base`: what an embedder and a classifier are. `musicnn`: music tags, its
weights come with its package. `tensor_bundle`: TensorFlow's checkpoints without
TensorFlow.
"""
