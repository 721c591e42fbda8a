# SPDX-License-Identifier: Apache-2.0
"""The bar counts clips, audio and rejections."""

from rich import progress as rich_progress

from musiclm_jax.data import progress, shards


def test_the_bar_counts_this_run_and_leaves_out_what_was_there():
  report = shards.ShardReport(
    clips=(shards.WrittenClip(id='a', split='train', num_samples=7),),
    rejected=(shards.Rejection(id='b', reason='silent', detail=''),),
    num_scaled=0,
  )
  with rich_progress.Progress(disable=True) as display:
    bar = progress.Bar(display, display.add_task('toy', total=7))
    bar.resume(report)
    bar.advance(1800.0, False)
    bar.advance(0.0, True)
    (task,) = display.tasks
    assert (task.completed, task.total) == (2, 5)
    assert task.fields['audio'] == '0.50 h of audio'
    assert task.fields['rejected'] == '2 rejected'


def test_an_invisible_bar_writes_nothing(capsys):
  with progress.bar(title='toy', num_clips=3, visible=False) as bar:
    bar.advance(1.0, False)
  assert capsys.readouterr().out == ''
