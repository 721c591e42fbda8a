# SPDX-License-Identifier: Apache-2.0
"""What a run has put on record, for tests that cut runs off."""

from musiclm_jax.training import metrics_writer


def losses(model_dir):
  """Loss by step, as text: to the last bit."""
  path = model_dir / 'metrics' / metrics_writer.FILE_NAME
  found = {}
  for fields in metrics_writer.read(path) if path.exists() else ():
    if 'train/loss' in fields:
      assert fields['step'] not in found
      found[fields['step']] = repr(fields['train/loss'])
  return found
