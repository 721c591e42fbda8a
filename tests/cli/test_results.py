# SPDX-License-Identifier: Apache-2.0
from musiclm_jax.cli import results
from tests.evaluation import test_results


def test_a_page_is_written_whole(tmp_path, capsys):
  test_results.keep(tmp_path / 'a', 'codec', seed=7)
  test_results.keep(tmp_path / 'a', 'stages')
  with (tmp_path / 'a' / 'stages.md').open('a') as page:
    page.write('\n## A heading of the report\n')
  output = tmp_path / 'results.md'
  results.main([str(tmp_path / 'a'), f'--output={output}'])
  assert output.read_text().startswith('# Results\n')
  assert capsys.readouterr().out == f'{output}: 2 reports.\n'
  assert {path.name for path in tmp_path.iterdir()} == {'a', 'results.md'}
