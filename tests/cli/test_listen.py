# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from musiclm_jax.cli import flags, listen
from tests.evaluation import test_listening


def test_a_page_is_made_and_its_votes_counted(tmp_path, capsys):
  a = test_listening.write_folder(tmp_path / 'a', gain=0.1, tone_hz=300)
  b = test_listening.write_folder(tmp_path / 'b', gain=0.2, tone_hz=500)
  page = tmp_path / 'page.html'
  listen.main([f'--a={a}', f'--b={b}', f'--output={page}', '--seed=5'])
  assert (
    f'5 pairs. {tmp_path / "page.key.json"} tells' in capsys.readouterr().out
  )
  key = json.loads((tmp_path / 'page.key.json').read_text())
  assert key['systems'] == [str(a), str(b)]
  votes = [
    {'pair': n, 'preference': -1 if pair['swapped'] else 1}
    for n, pair in enumerate(key['pairs'])
  ]
  saved = tmp_path / 'votes.json'
  saved.write_text(json.dumps({'page': key['page'], 'votes': votes}))
  listen.main(['--votes', str(saved), '--key', str(tmp_path / 'page.key.json')])
  assert f'| {a} | {b} | 0 : 5 | 0 | +1.00 |' in capsys.readouterr().out


@pytest.mark.parametrize(
  'options', [[], ['--a=x', '--output=y'], ['--votes', 'x', '--seed=1']]
)
def test_half_of_what_is_needed_is_a_wrong_command(options):
  with pytest.raises(
    flags.UsageError, match='for a page, or --votes and --key'
  ):
    listen.main(options)
