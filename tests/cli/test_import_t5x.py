# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.cli import flags, import_t5x
from tests.integrations import toys


def test_a_run_of_t5x_becomes_a_bundle(tmp_path, capsys):
  run = toys.write_run(tmp_path / 'run', steps=(7,))
  output = tmp_path / 'stage'
  import_t5x.main([f'--model_dir={run}', f'--output={output}'])
  assert (
    bundle.load(output, kind='stage').fingerprint in capsys.readouterr().out
  )
  assert (output / 'config.gin').read_text() == '# Of t5x.\n'
  with pytest.raises(flags.UsageError, match='is there already'):
    import_t5x.main([f'--model_dir={run}', f'--output={output}'])


def test_a_bundle_that_is_in_a_bucket_already_is_not_written_over(buckets):
  there = buckets / 'b' / 'stage'
  there.mkdir(parents=True)
  (there / 'model.json').write_text('{}')
  with pytest.raises(flags.UsageError, match='gs://b/stage is there already'):
    import_t5x.main(['--model_dir=nowhere', '--output=gs://b/stage'])
