# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.cli import flags


def parser() -> flags.Parser:
  made = flags.Parser(prog='musiclm try')
  made.add_gin_flags()
  made.add_argument('--levels', type=int)
  return made


def test_gin_flags_are_those_of_t5x_in_order():
  got = parser().parse_args(
    [
      '--gin_file=a.gin',
      '--gin.NUM_STEPS=3',
      '--gin_file',
      'b.gin',
      "--gin.loop.train.name='x=y'",
      '--gin_search_paths=one,two',
      '--levels=7',
    ]
  )
  assert got.gin_file == ['a.gin', 'b.gin']
  assert got.gin_bindings == ['NUM_STEPS = 3', "loop.train.name = 'x=y'"]
  assert got.gin_search_paths == ['one', 'two']
  assert got.levels == 7


def test_without_gin_flags_nothing_is_bound():
  got = parser().parse_args([])
  assert (got.gin_file, got.gin_bindings, got.gin_search_paths) == ([], [], [])


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (
      ['--gin_fil=a'],
      "unknown argument '--gin_fil'; did you mean '--gin_file'",
    ),
    (['--level=7'], "unknown argument '--level'; did you mean '--levels'"),
    (['--levels=many'], "--levels: invalid int value: 'many'"),
    (['--gin.NUM_STEPS'], r'write --gin.NUM_STEPS=VALUE'),
    (['--gin.NUM_STEPS='], r'write --gin.NUM_STEPS=VALUE'),
  ],
)
def test_a_wrong_flag_is_a_usage_error_that_names_the_right_one(argv, message):
  with pytest.raises(flags.UsageError, match=message):
    parser().parse_args(argv)


def test_subcommands_take_gin_flags_of_their_own():
  top = flags.Parser(prog='musiclm data')
  prepare = top.add_subparsers(dest='what').add_parser('prepare')
  prepare.add_gin_flags()
  got = top.parse_args(['prepare', '--gin_file=a.gin', '--gin.N=2'])
  assert (got.what, got.gin_file, got.gin_bindings) == (
    'prepare',
    ['a.gin'],
    ['N = 2'],
  )
  with pytest.raises(flags.UsageError, match="did you mean '--gin_file'"):
    top.parse_args(['prepare', '--ginfile=a.gin'])


def test_gin_flags_are_unknown_to_a_verb_that_takes_none():
  with pytest.raises(flags.UsageError, match="unknown argument '--gin.N'"):
    flags.Parser(prog='musiclm try').parse_args(['--gin.N=2'])


def test_nearest_lists_all_when_nothing_is_near():
  assert flags.nearest('xyz', ['alpha', 'beta']) == '; there are: alpha, beta.'
  assert flags.nearest('alphq', ['alpha', 'b']) == "; did you mean 'alpha'?"
  assert flags.nearest('x', []) == '; there are none.'
