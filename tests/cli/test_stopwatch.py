# SPDX-License-Identifier: Apache-2.0
import time

import jax
import jax.numpy as jnp
import pytest

from musiclm_jax.cli import stopwatch


def test_a_program_counts_as_compiling_once_and_its_run_does_not():
  @jax.jit
  def inner(x):
    return x * 3

  @jax.jit
  def program(x):
    time.sleep(0.05)  # While it is traced, and not when it runs.
    return inner(inner(x) + 1)

  watch = stopwatch.Stopwatch()
  with watch.watching():
    watch.mark('before')
    for number in range(3):
      program(jnp.ones(7)).block_until_ready()
      watch.mark(f'run {number}')
      time.sleep(0.02)
  program(jnp.ones(11))  # Not watched.
  watch.mark('after')
  assert watch.marks['before']['compiling'] == 0
  first, *others = [watch.marks[f'run {number}'] for number in range(3)]
  assert 0.05 <= first['compiling'] <= first['seconds']
  for other in (*others, watch.marks['after']):
    assert other['compiling'] == first['compiling']
    assert other['seconds'] > first['seconds'] + 0.02
  assert 'run 1 after' in str(watch)


def test_what_lies_within_is_not_counted_twice():
  watch = stopwatch.Stopwatch()
  told = watch._told
  compiling = '/jax/core/compile/jaxpr_trace_duration'
  for event, start, stop in (
    (compiling, 13.0, 14.0),
    (compiling, 15.0, 17.0),
    (compiling, 11.0, 18.0),  # Holds both.
    (compiling, 19.0, 22.0),
    ('/jax/checkpoint/write', 30.0, 50.0),
  ):
    told(event, start, stop, fun_name='f')
  watch.mark('all')
  assert watch.marks['all']['compiling'] == pytest.approx(7 + 3)


def test_the_first_time_of_a_name_counts():
  watch = stopwatch.Stopwatch()
  watch.mark('first_sound')
  first = watch.marks['first_sound']
  time.sleep(0.01)
  watch.mark('first_sound')
  assert watch.marks == {'first_sound': first}
  assert str(watch).startswith('first sound after 0.0 s, of which 0.0 s')
