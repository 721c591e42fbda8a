# SPDX-License-Identifier: Apache-2.0
from musiclm_jax.cli import import_clap
from musiclm_jax.export import clap


def test_the_verb_converts_and_tells_what_the_folder_is_of(monkeypatch, capsys):
  asked = []

  def convert(checkpoint, output, *, tokenizer):
    asked.append((checkpoint, output, tokenizer))
    return 'c0ffee'

  monkeypatch.setattr(clap, 'convert', convert)
  import_clap.main(
    ['--checkpoint=a.pt', '--tokenizer=roberta', '--output=clap']
  )
  assert asked == [('a.pt', 'clap', 'roberta')]
  assert capsys.readouterr().out == 'clap: of c0ffee\n'
