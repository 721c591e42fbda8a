# SPDX-License-Identifier: Apache-2.0
"""OBJECTIVE × BATCHES → CHECKPOINT: the trainer, and the only home of optax.

In reading order: `objective` (what is asked of a model), `state`, `step` and
`adversarial` (pure steps), `optimizers`, `partitioning` (meshes), `loop`, and
what it uses: `beginning`, `feed`, `hooks`, `meter`, `metrics_writer`, `progress`,
`preemption`. `state_axes` serves `partitioning`.
"""
