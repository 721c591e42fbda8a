# SPDX-License-Identifier: Apache-2.0
"""Who listens for the metrics: models that others trained, and ours.

`base`: what an embedder and a classifier are; `loading`: one by its name.
`musicnn`: music tags, its weights come with its package. `vggish`, `trill`,
`clap`: weights by path. `mulan`, `codec`: our own bundles. `tensor_bundle`:
TensorFlow's checkpoints without TensorFlow.
"""
