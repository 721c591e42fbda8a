# SPDX-License-Identifier: Apache-2.0
"""What the trainer asks of a model, and all that it asks.

Models implement these protocols without importing this file: `codec`,
`semantic`, `mulan` and `stages` lie below `training` and meet it in plain
arrays and `musiclm_jax.metrics`. Every method is pure, is traced under `jit`,
and sees the *global* batch; none of them knows of a mesh.

Variables are Linen's: {'params': ..., 'codebooks': ...}, where every collection
but 'params' is a statistic that takes no gradient.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from musiclm_jax.array_types import Batch, PRNGKey, Variables, Waveform
from musiclm_jax.metrics import Evaluation, LossOutput, WeightedMean


@runtime_checkable
class Objective(Protocol):
  """A model that is trained by descending one loss.

  One that reads codes also has `trained_on`, see `origin`.

  Attributes:
    batch_is_coupled: True if the loss of an example depends on the others
      (contrastive and diversity losses, statistics over the batch); more than
      one microbatch is then an error.
  """

  batch_is_coupled: bool

  def init(self, key: PRNGKey, batch: Batch) -> Variables:
    """Fresh variables, boxed with their logical axes."""
    ...

  def loss(
    self, variables: Variables, batch: Batch, key: PRNGKey
  ) -> LossOutput:
    """The training loss; `updates` holds whole new collections."""
    ...

  def evaluate(
    self, variables: Variables, batch: Batch, key: PRNGKey
  ) -> Evaluation:
    """Figures on held-out examples: no dropout, no update of statistics.

    The key is the same at every evaluation, for objectives that must draw
    (masks, say).
    """
    ...

  def bundle(self, variables: Variables) -> Any:
    """What to publish: a `checkpoints.bundle.BundleContents`."""
    ...


@runtime_checkable
class TrainsParts(Protocol):
  """An adversarial objective or training that may leave weights as they are.

  Attributes:
    trained_parts: Names at the top of the published parameters; None for all.
      Other parameters take no gradient, and they and all other collections
      stay to the bit, so that the codes that they make stay what they are.
  """

  trained_parts: tuple[str, ...] | None


def trained_parts(of: Any) -> tuple[str, ...] | None:
  """Those of an objective or of a training; None for all."""
  return of.trained_parts if isinstance(of, TrainsParts) else None


@runtime_checkable
class Generated(Protocol):
  """What a generator made of a batch; a dataclass that is a pytree.

  Attributes:
    waveform: What the discriminator judges; gradients come back through it.
    losses: Terms of the generator's loss that need no discriminator.
    metrics: Figures to log.
    updates: Whole new collections; empty if there are none.
  """

  waveform: Waveform
  losses: Any
  metrics: Mapping[str, WeightedMean]
  updates: Variables


@runtime_checkable
class AdversarialObjective(Protocol):
  """A generator and a discriminator that share their forward passes.

  A step runs `generate` once and `judge` once and pulls back through them
  twice: the discriminator's loss to its parameters, the generator's loss
  through the judgement and the waveform to the generator's parameters. Both
  players move at the same time. `judge` should pass real and fake apart, not
  concatenated: the generator's pull-back then skips the real half.
  """

  def init(self, key: PRNGKey, batch: Batch) -> Mapping[str, Variables]:
    """{'generator': variables, 'discriminator': variables}, boxed.

    The discriminator has 'params' and no other collection.
    """
    ...

  def generate(
    self, generator_variables: Variables, batch: Batch, key: PRNGKey
  ) -> Generated:
    """The fake waveform, with all that the generator's loss needs."""
    ...

  def judge(
    self, discriminator_params: Any, batch: Batch, fake_waveform: Waveform
  ) -> Any:
    """Logits and features of real and fake, as a pytree.

    `discriminator_params` is the 'params' collection itself.
    """
    ...

  def generator_loss(
    self, generated: Generated, judged: Any, step: jax.Array
  ) -> LossOutput:
    """The generator's loss; `updates` is not read, `generated.updates` is."""
    ...

  def discriminator_loss(self, judged: Any, step: jax.Array) -> LossOutput:
    """The discriminator's loss; `step` allows either player a warm-up."""
    ...

  def evaluate(
    self, generator_variables: Variables, batch: Batch, key: PRNGKey
  ) -> Evaluation:
    """Figures on held-out examples, of the generator alone."""
    ...

  def bundle(self, generator_variables: Variables) -> Any:
    """What to publish: a `checkpoints.bundle.BundleContents`."""
    ...
