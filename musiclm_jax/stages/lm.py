# SPDX-License-Identifier: Apache-2.0
"""The language model of a stage: rows of a layout to logits of its output.

MusicLM (Agostinelli et al., 2023), section 4.2: a decoder-only Transformer with
T5's relative bias, one a stage. 24 layers of 16 heads, width 1024 and 4096 are
its 430 M parameters if the feed-forward is gated and the two tables cover the
stage's whole vocabulary, so that is how it is here. Its input table has the
special ids besides; its logits have not, since no special id is ever made.

Shapes: batch, length = positions of a row, frames and levels of the output,
codes = codebook size of the output, vocab = codes of all streams.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Bool, Float, Int

from musiclm_jax import axes, metrics
from musiclm_jax.array_types import Tokens
from musiclm_jax.checkpoints import storage
from musiclm_jax.layers import (
  alignment,
  dense,
  embedding,
  parameters,
  transformer,
)
from musiclm_jax.layers.cache import LayerCache
from musiclm_jax.stages.layout import StageLayout
from musiclm_jax.stages.spec import StageSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageLMConfig:
  """A stage and the sizes of its model.

  Attributes:
    spec: What goes in and out.
    transformer: Sizes of the body; the tables follow from the spec.
  """

  spec: StageSpec
  transformer: transformer.TransformerConfig

  @functools.cached_property
  def layout(self) -> StageLayout:
    """The rows that the model reads."""
    return StageLayout(self.spec)

  def to_decode(self, *, dtype: str | None = None) -> StageLMConfig:
    """The same model with separate layers, computed and stored in `dtype`.

    Its prompt is read without a kernel, so that it decodes on any platform.
    int8 is how the layers' kernels are stored; it is computed in float32.
    """
    types = {} if dtype is None else {'dtype': dtype, 'param_dtype': dtype}
    if dtype == 'int8':
      types['dtype'] = 'float32'
    elif dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(
        f'A stage cannot be decoded in {dtype!r}; choose a floating-point type'
        " such as 'float32' or 'bfloat16', or 'int8' for the layers' kernels."
      )
    body = dataclasses.replace(
      self.transformer,
      scan_layers=False,
      remat=False,
      attention='einsum',
      **types,
    )
    return dataclasses.replace(self, transformer=body)


@flax.struct.dataclass
class Prediction:
  """What one position of a decoder gives.

  Attributes:
    logits: Of the codes that are legal at the next position, [batch, codes].
    caches: With this position in them.
  """

  logits: Any
  caches: tuple[LayerCache, ...]


class StageLM(nn.Module):
  """Tables around a Transformer.

  Attributes:
    config: Stage and sizes.
  """

  config: StageLMConfig

  def setup(self) -> None:
    body, layout = self.config.transformer, self.config.layout
    self.inputs = embedding.Embedding(
      num_ids=layout.num_ids, embed_dim=body.embed_dim, **body.types
    )
    self.transformer = transformer.Transformer(body, spans=_spans(layout))
    self.logit_table = parameters.param(
      self,
      'logit_table',
      nn.initializers.variance_scaling(
        1.0, 'fan_in', 'truncated_normal', in_axis=1, out_axis=0
      ),
      (layout.vocabulary_size, body.embed_dim),
      body.types['param_dtype'],
      axes=(axes.VOCAB, axes.EMBED),
    )

  def __call__(
    self, tokens: Tokens
  ) -> Float[Array, 'batch frames levels codes']:
    """Logits of the output, each over the codes of its own level alone."""
    return self._logits(
      'btqd,qvd->btqv', self._before_output(tokens), self._output_tables()
    )

  def vocabulary_logits(
    self, tokens: Tokens
  ) -> Float[Array, 'batch frames levels vocab']:
    """Logits of the output, each over the stage's whole vocabulary."""
    return self._logits(
      'btqd,vd->btqv', self._before_output(tokens), self.logit_table
    )

  def prefill(self, tokens: Tokens) -> tuple[LayerCache, ...]:
    """The caches of the first positions of a row, in one pass."""
    tokens = jnp.asarray(tokens)
    return self.transformer(
      self.inputs(tokens),
      valid_mask=self.config.layout.valid_mask(tokens),
      keeps_caches=True,
    ).caches

  def step(
    self,
    tokens: Int[Array, ' batch'],
    *,
    caches: tuple[LayerCache, ...],
    valid_mask: Bool[Array, 'batch capacity'],
    position: Int[Array, ''],
  ) -> Prediction:
    """One position: its token in, the logits of the next position out.

    Args:
      tokens: Those at `position`, which precedes an output position.
      caches: Of the positions before.
      valid_mask: False where a cached position is padding.
      position: The same in all rows.

    Returns:
      Logits of the codes that are legal next, and no others.
    """
    output = self.config.layout.output
    after = self.transformer(
      self.inputs(tokens[:, None]),
      valid_mask=valid_mask,
      caches=caches,
      position=position,
    )
    level = (position + 1 - output.start) % output.take.count
    table = self._output_tables()
    # A slice in a loop is a copy, so not where there is one level.
    table = (
      table[0]
      if output.take.count == 1
      else jax.lax.dynamic_index_in_dim(table, level, keepdims=False)
    )
    # Codes first, as in `layers.dense`: a decoder has few rows.
    logits = self._logits('vd,bd->vb', table, after.hidden[:, 0]).T
    return Prediction(logits, after.caches)

  def _before_output(
    self, tokens: Tokens
  ) -> Float[Array, 'batch frames levels embed']:
    """The hidden states at the positions whose successors are the output."""
    layout, output = self.config.layout, self.config.layout.output
    tokens = jnp.asarray(tokens)
    hidden = self.transformer(
      self.inputs(tokens), valid_mask=layout.valid_mask(tokens)
    ).hidden
    hidden = hidden[:, output.start - 1 : output.stop - 1]
    return hidden.reshape(
      hidden.shape[0], output.num_frames, output.take.count, -1
    )

  def _output_tables(self) -> Float[Array, 'levels codes embed']:
    """The rows of the logit table for each level of the output."""
    output = self.config.layout.output
    size = output.take.stream.codebook_size
    return jnp.stack(
      [self.logit_table[first : first + size] for first in output.first_ids]
    )

  def _logits(
    self, einsum: str, left: jax.Array, right: jax.Array
  ) -> jax.Array:
    """A product in the compute type that is summed in at least float32."""
    dtype = self.config.transformer.types['dtype']
    return jnp.einsum(
      einsum,
      left.astype(dtype),
      right.astype(dtype),
      preferred_element_type=metrics.accumulation_dtype(dtype),
    )


def _spans(layout: StageLayout) -> tuple[alignment.Span, ...]:
  """The segments of a row as `alignment` takes them.

  Where repeats are removed, frames have no time.
  """
  rates = [
    None if segment.take.distinct_share else segment.take.stream.rate_hz
    for segment in layout.segments
  ]
  fastest = max((rate for rate in rates if rate is not None), default=None)
  return tuple(
    alignment.Span(
      start=segment.start,
      num_frames=segment.num_frames,
      count=segment.take.count,
      frame_ticks=None if rate is None else fastest / rate,
    )
    for segment, rate in zip(layout.segments, rates, strict=True)
  )


def to_decode(
  config: StageLMConfig, params: Any, *, dtype: str | None = None
) -> tuple[StageLMConfig, Any]:
  """A config and its parameters as a decoder and a bundle hold them.

  Args:
    config: As trained.
    params: As trained; separate layers stay as they are.
    dtype: Of the floating-point parameters and of computing; 'int8' for the
      layers' kernels as `checkpoints.storage` rounds them, and all else
      float32; as trained if left out.

  Returns:
    The config of separate layers, and their parameters.

  Raises:
    ValueError: There is no decoding in `dtype`, or a kernel is broken.
  """
  decoded = config.to_decode(dtype=dtype)
  body = transformer.unstack_layers(
    params['transformer'], num_layers=config.transformer.num_layers
  )
  params = {**params, 'transformer': body}
  if dtype is not None:
    computed = decoded.transformer.dtype
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, computed), params)
  if dtype == 'int8':
    params = _quantized(params, num_inputs=_num_inputs(decoded))
  return decoded, params


def _num_inputs(config: StageLMConfig) -> dict[tuple[str, ...], int]:
  """Of each layer with a kernel, by its path: the axes that it sums over."""
  found = {}

  def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if isinstance(context.module, dense.DenseGeneral):
      found[context.module.path] = context.module.num_inputs
    return call(*args, **kwargs)

  model, token = StageLM(config), np.zeros((1, 1), np.int32)
  with nn.intercept_methods(note):
    jax.eval_shape(
      functools.partial(model.init, method=StageLM.prefill),
      jax.random.key(0),
      token,
    )
  return found


def _quantized(
  params: Any, *, num_inputs: dict[tuple[str, ...], int]
) -> dict[str, Any]:
  """With the kernels of the layers in `num_inputs` as int8 and their scales."""
  flat = dict(traverse_util.flatten_dict(params))
  for layer, count in num_inputs.items():
    path = (*layer, 'kernel')
    kernel = np.asarray(flat[path])
    storage.require_finite('/'.join(path), kernel)
    values, scale = dense.int8_layout(
      *storage.quantize(kernel), num_inputs=count
    )
    flat[path] = jax.device_put(values)
    flat[(*layer, 'kernel_scale')] = jax.device_put(scale)
  return traverse_util.unflatten_dict(flat)
