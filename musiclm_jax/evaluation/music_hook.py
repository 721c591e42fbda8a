# SPDX-License-Identifier: Apache-2.0
"""Music while a stage is trained: made by it in a cascade, heard and measured.

What `musiclm evaluate music` tells of a folder, of a few pieces every so many
steps: FAD, KLD, MCC and levels (see `music`); of a model without a conditioner,
as an AudioLM, what needs no prompts. The stage is taken as it would be
published, with averaged weights where the run keeps an average, and the other
bundles as they are; seeds and prompts stay the same, so that what changes is
the stage. Few pieces say little of FAD by itself: read its course.

Nothing of the run is changed: pieces are drawn by keys of their own. With
several processes each makes the same pieces on a device of its own, for it
would else only wait, and the figures of the first are everybody's.

Shapes: waveform [pieces, samples].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn

import jax
import jax.numpy as jnp
from absl import logging

from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec.base import Codec
from musiclm_jax.conditioning.base import Conditioner
from musiclm_jax.evaluation import clips as clips_of
from musiclm_jax.evaluation import in_training, music
from musiclm_jax.evaluation.embedders.base import Embedder
from musiclm_jax.evaluation.prompts import Prompt
from musiclm_jax.inference import assembly, prompting
from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.inference.music_lm import Music, MusicLM
from musiclm_jax.inference.request import Request
from musiclm_jax.stages.lm import StageLMConfig
from musiclm_jax.streams import require_same_stream
from musiclm_jax.training.hooks import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Others:
  """The parts of a model beside the stage that is trained.

  Attributes:
    codec: Acoustic codes to audio.
    conditioner: Prompts to codes; None where the stages read none.
    stages: The other two, by name; their weights stay on the host between two
      evaluations.
  """

  codec: Codec
  conditioner: Conditioner | None
  stages: Mapping[str, bundle.Bundle]

  def require_fit(self, config: StageLMConfig) -> None:
    """Raises unless the stage of `config` makes them a whole model.

    Raises:
      ValueError: One is missing or of too many, or reads other codes.
    """
    name = config.spec.name
    if {*self.stages, name} != set(assembly.STAGES) or name in self.stages:
      raise ValueError(
        f'Stage {name!r} is trained, and the others are {sorted(self.stages)};'
        f' give all but it of {", ".join(assembly.STAGES)}.'
      )
    configs = {n: stage.config for n, stage in self.stages.items()}
    configs[name] = config
    cascade = Cascade(
      **{n: StageDecoder(config=c, params=None) for n, c in configs.items()}
    )  # Says by itself whether stages fit to each other.
    makers = [m for m in (self.codec, self.conditioner) if m is not None]
    made = {maker.stream.name for maker in makers}
    if lost := cascade.condition_names - made:
      raise ValueError(
        f'The stages read {", ".join(sorted(lost))} codes, and there is no'
        ' conditioner that makes them; give its bundle.'
      )
    for stage in configs.values():
      for maker in makers:
        wanted = stage.spec.streams.get(maker.stream.name)
        if wanted is not None:
          require_same_stream(
            wanted=wanted,
            got=maker.stream,
            remedy=f'Stage {stage.spec.name!r} is trained on codes of another'
            f' model than makes the {maker.stream.name} codes here; give the'
            ' bundles that made its tokens.',
          )

  def with_stage(self, contents: bundle.BundleContents) -> MusicLM:
    """The whole model, its stages on the device."""
    stages = {**self.stages, contents.config.spec.name: contents}
    decoders = {
      name: StageDecoder(
        config=stage.config,
        # Once, for NumPy arrays would be copied at every call.
        params=jax.tree.map(jnp.asarray, stage.weights['params']),
      )
      for name, stage in stages.items()
    }
    return MusicLM(
      codec=self.codec,
      conditioner=self.conditioner,
      cascade=Cascade(**decoders),
      semantic=_nothing_to_continue,
      fingerprints={},
    )


class EvaluateMusic:
  """Makes and measures music of the same prompts every so often; a `Hook`."""

  def __init__(
    self,
    *,
    others: Others,
    prompts: Sequence[Prompt],
    reference: music.Heard,
    embedders: Sequence[Embedder],
    request: Request,
    every_steps: int,
    num_audio_examples: int = 4,
    name: str = 'music',
  ):
    """Makes and hears nothing yet.

    Args:
      others: The model that the stage is put into.
      prompts: What is asked for, a piece each; `reference` is its pair for KLD.
        Empty where the model takes none.
      reference: What pieces are held against.
      embedders: Those that hear both sides.
      request: Of these pieces: length, seeds, sampling.
      every_steps: When; also at the end of the run.
      num_audio_examples: Pieces whose audio is logged.
      name: Figures are named `<name>/...`.

    Raises:
      ValueError: Prompts or guidance are asked of a model without conditioner.
    """
    if others.conditioner is None:  # Now, not when the first piece is made.
      prompting.pieces(request, conditioner=None, ticks_of=lambda seconds: 0)
    self._others = others
    self._prompts = tuple(
      dataclasses.replace(prompt, file=_name(number))
      for number, prompt in enumerate(prompts)
    )
    self._reference = reference
    self._embedders = tuple(embedders)
    self._request = request
    self._every_steps = every_steps
    self._num_audio_examples = num_audio_examples
    self._name = name
    self._has_warned = False
    self._published = in_training.Published(
      'stage',
      hook='EvaluateMusic',
      require=lambda contents: others.require_fit(contents.config),
    )

  def due(self, run: Run) -> bool:
    self._published.check_once(run)
    return run.every(self._every_steps)

  def __call__(self, run: Run) -> None:
    model = self._others.with_stage(self._published.of(run))
    made = model.compose(self._request, progress=lambda *_: run.beat())
    generated = music.hear(
      self._clips(made, beat=run.beat),
      source=f'step {run.step}',
      embedders=self._embedders,
    )
    found = music.evaluate(
      generated,
      self._reference,
      embedders=self._embedders,
      prompts=self._prompts,
      has_plain_fad=True,
    )
    if not self._has_warned:
      for warning in found.warnings:
        logging.warning('%s: %s.', self._name, warning)
      self._has_warned = True
    figures = {f'{self._name}/{k}': v for k, v in figures_of(found).items()}
    figures = in_training.of_first_process(figures)
    run.writer.scalars(run.step, figures)
    run.figures.update(figures)
    run.writer.waveforms(
      run.step,
      {
        f'{self._name}/{_name(number)}, {made.prompts[number]}': waveform[None]
        for number, waveform in enumerate(
          made.waveform[: self._num_audio_examples]
        )
      },
      sample_rate_hz=made.sample_rate_hz,
    )

  def _clips(
    self, made: Music, *, beat: Callable[[], None]
  ) -> Iterator[clips_of.Clip]:
    for number, waveform in enumerate(made.waveform):
      beat()
      yield clips_of.Clip(
        name=_name(number),
        waveform=waveform,
        sample_rate_hz=made.sample_rate_hz,
      )


def figures_of(found: music.MusicReport) -> dict[str, float]:
  """Its figures without their intervals, by path."""
  figures = {
    f'fad/{name}': fad.distance.mean for name, fad in found.frechet.items()
  }
  for name, kld in found.kld.items():
    figures[f'kld_of_sets/{name}'] = kld.sets.mean
    if kld.paired is not None:
      figures[f'kld_of_pairs/{name}'] = kld.paired.mean
  for name, mcc in found.consistency.items():
    figures[f'mcc/{name}'] = mcc.matched.mean
    figures[f'mcc_above_shuffled/{name}'] = mcc.above_shuffled.mean
  for name, level in music.level_estimates(found.generated).items():
    figures[f'level/{name}'] = level.mean
  return figures


def _name(number: int) -> str:
  return f'piece {number + 1}'


def _nothing_to_continue() -> NoReturn:
  raise ValueError('Pieces of an evaluation go on from nothing.')
