# SPDX-License-Identifier: Apache-2.0
import dataclasses
import io as bytes_io
import json
import types

import numpy as np
import pytest
import soundfile

from musiclm_jax.audio import io
from musiclm_jax.cli import flags, generate, generate_files
from musiclm_jax.inference.music_lm import MusicLM
from tests.inference import toys


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  directory = tmp_path_factory.mktemp('model')
  toys.publish(directory)
  toys.restate(directory, directory, sampling=toys.GUIDED)
  return directory


def run(model, output, *options):
  generate.main([f'--model={model}', f'--output={output}', *options])
  return json.loads((output / 'generate.json').read_text())


def test_every_prompt_becomes_files_that_are_ranked(model, tmp_path, capsys):
  output = tmp_path / 'a' / 'out'
  report = run(
    model,
    output,
    *('--prompt=slow piano waltz', '--prompt=Fast & loud!', '--num_samples=2'),
    *('--seconds=1.5', '--seed=3'),
  )
  music_lm = MusicLM.load(model)
  wanted = music_lm.generate(
    ['slow piano waltz', 'Fast & loud!'], seconds=1.5, seed=3, num_samples=2
  )
  names = {piece['file'] for piece in report['pieces']}
  assert names == {
    f'{name}_{rank}.wav'
    for name in ('1_slow_piano_waltz', '2_fast_loud')
    for rank in (1, 2)
  }
  for piece, waveform in zip(report['pieces'], wanted):
    heard = io.read(output / piece['file'])
    assert heard.sample_rate_hz == toys.RATE_HZ
    np.testing.assert_allclose(heard.waveform, waveform, atol=2**-15)
  assert [piece['seed'] for piece in report['pieces']] == [3, 4, 3, 4]
  for samples in (report['pieces'][:2], report['pieces'][2:]):
    by_rank = sorted(samples, key=lambda piece: piece['rank'])
    assert by_rank[0]['similarity'] >= by_rank[1]['similarity']
  assert report['fingerprints'] == music_lm.fingerprints
  assert report['sampling']['fine']['temperature'] == 0.4
  assert report['sampling']['coarse']['top_k'] == 7
  assert report['guidance'] == 3
  assert set(report['time_spent']) == {
    'prompt',
    'semantic',
    'coarse',
    'fine',
    'codec',
  }
  assert {path.name for path in output.iterdir()} == {
    *names,
    'spectrograms.png',
    'generate.json',
  }
  shown = capsys.readouterr().out
  assert 'semantic' in shown and '100%' in shown
  until = report['time_until']
  assert list(until) == ['first_sound', 'all']
  assert 0 < until['first_sound']['seconds'] < until['all']['seconds']
  for mark in until.values():
    assert 0 < mark['compiling'] < mark['seconds']
  # Beyond the stages, loading and imports: all of it was waited for.
  assert until['all']['seconds'] > sum(report['time_spent'].values())
  said = f'first sound after {until["first_sound"]["seconds"]:.1f} s, of which '
  assert said in shown.splitlines()[-1]


def test_what_was_made_is_told_from_what_would_be_made_now(model, tmp_path):
  run(model, tmp_path / 'out', '--prompt=slow piano waltz', '--seconds=1.5')
  path = tmp_path / 'out' / 'generate.json'

  def same(**changes):
    asked = {'model': str(model), 'prompts': ['slow piano waltz']}
    asked |= {'seconds': '1.5'} | changes
    return generate_files.would_be_same(path, **asked)

  assert same()
  assert not same(prompts=['slow piano waltz', 'calm'])
  assert not same(prompts=['calm'])
  assert not same(seconds=2)
  for name, sampling in {
    'unguided': dataclasses.replace(toys.GUIDED, guidance_scale=None),
    'colder': dataclasses.replace(toys.GUIDED, fine=toys.GUIDED.coarse),
  }.items():
    toys.restate(model, tmp_path / name, sampling=sampling)
    assert not same(model=str(tmp_path / name))
  report = json.loads(path.read_text())
  report['fingerprints']['stages/fine'] = 'ab'
  path.write_text(json.dumps(report))
  assert not same()


def test_a_piece_is_played_while_it_is_made(
  model, tmp_path, monkeypatch, capsys
):
  class Pipe(bytes_io.BytesIO):
    def flush(self):
      heard.append((len(self.getvalue()), files()))

  def files():
    return (tmp_path / 'out').exists()

  heard, pipe = [], Pipe()
  monkeypatch.setattr('sys.stdout', types.SimpleNamespace(buffer=pipe))
  report = run(
    model,
    tmp_path / 'out',
    *('--prompt=slow piano waltz', '--seconds=7', '--stream'),
  )
  # Two coarse windows, so two parts at least; a thread plays the later ones.
  assert len(heard) >= 2 and not heard[0][1]
  played, rate_hz = soundfile.read(bytes_io.BytesIO(pipe.getvalue()))
  (piece,) = report['pieces']
  kept = io.read(tmp_path / 'out' / piece['file'])
  assert (rate_hz, played.size) == (toys.RATE_HZ, 7 * toys.RATE_HZ)
  np.testing.assert_array_equal(played.astype(np.float32), kept.waveform)
  # The WAV alone went to stdout.
  assert len(pipe.getvalue()) == 44 + 2 * played.size
  assert 'generate.json' in capsys.readouterr().err


def test_a_file_of_prompts_is_made_with_its_facts(model, tmp_path):
  file = tmp_path / 'prompts.jsonl'
  file.write_text(
    '{"prompt": "slow", "facts": {"tempo_bpm": 60}, "reference": "tune.7"}'
  )
  report = run(
    model,
    tmp_path / 'out',
    *('--prompt=first', f'--prompts={file}', '--num_samples=2'),
    '--seconds=1.5',  # As above: nothing new is compiled.
  )
  told = [(p['prompt'], p.get('facts')) for p in report['pieces']]
  assert told[::2] == [('first', None), ('slow', {'tempo_bpm': 60})]
  assert told[1::2] == told[::2]
  references = [p.get('reference') for p in report['pieces']]
  assert references == [None, None, 'tune.7', 'tune.7']


def test_a_caption_of_two_pieces_is_made_twice_each_for_its_own(
  model, tmp_path
):
  file = tmp_path / 'prompts.jsonl'
  file.write_text(
    '{"prompt": "slow", "facts": {"tempo_bpm": 60}, "reference": "tune.7"}\n'
    '{"prompt": "slow", "facts": {"tempo_bpm": 66}}\n'
  )
  first, *pieces = run(
    model,
    tmp_path / 'out',
    *('--prompt=first', '--prompt=slow', f'--prompts={file}'),
    *('--seed=5', '--seconds=1.5'),  # Four rows, as above.
  )['pieces']
  assert first['seed'] == 5
  assert [(p.get('facts'), p.get('reference'), p['seed']) for p in pieces] == [
    (None, None, 5),
    ({'tempo_bpm': 60}, 'tune.7', 6),
    ({'tempo_bpm': 66}, None, 7),
  ]
  heard = {(tmp_path / 'out' / p['file']).read_bytes() for p in pieces}
  assert len(heard) == 3


def test_a_prompt_that_is_there_again_has_the_seeds_after_the_first():
  options = ['--output=b', '--seed=3', '--num_samples=2']
  options = generate._parser().parse_args(options)
  prompts = ['a', 'b', 'a', 'a']
  assert generate._seeds(prompts, options=options) == [3, 3, 5, 7]


def test_a_schedule_and_audio_are_read_from_files(model, tmp_path):
  (tmp_path / 'story.txt').write_text('0 calm\n2 drop\n')
  tone = 0.3 * np.sin(np.arange(200)).astype(np.float32)
  io.write(tmp_path / 'in.wav', tone, sample_rate_hz=2 * toys.RATE_HZ)
  report = run(
    model,
    tmp_path / 'story',
    *(f'--schedule={tmp_path / "story.txt"}', '--seconds=3'),
    f'--continue_from={tmp_path / "in.wav"}',
  )
  (piece,) = report['pieces']
  assert piece['prompt'] == 'calm | 2 s: drop'
  report = run(
    model,
    tmp_path / 'like',
    *(f'--prompt_audio={tmp_path / "in.wav"}', '--seconds=1'),
  )
  (piece,) = report['pieces']
  assert (piece['prompt'], piece['label']) == (None, 'audio')


@pytest.mark.parametrize(
  'options, match',
  [
    ([], 'nothing says what to make; give one of --prompt'),
    (['--prompt='], "'' is not a prompt"),
    (['--prompt=a', '--seconds=0'], 'more than 0'),
    (['--prompt=a', '--seconds=-3'], 'more than 0'),
    (['--prompt=a', '--seconds=ten'], "'ten' is not a number"),
    (['--prompt=a', '--num_samples=0'], 'at least 1'),
    (['--prompt=a', '--seed=-1'], 'within'),
    (['--prompt=a', '--temperature=1,2'], '2 numbers; give 1'),
    (['--prompt=a', '--temperature=-1'], 'temperature is -1.0'),
    (['--prompt=a', '--top_k=0'], 'at least 1'),
    (['--prompt=a', '--top_p=x'], 'invalid number'),
    (['--prompt=a', '--prompt_audio=b.wav'], 'Both'),
    (['--prompt=a', '--dtype=int4'], "invalid choice: 'int4'"),
    (['--prompt=a', '--model=nowhere'], 'musiclm assemble'),
    (['--continue_from=nowhere.wav'], 'nowhere.wav'),
    (['--schedule=nowhere.txt'], 'nowhere.txt'),
    (['--prompt=a', '--prompt=b', '--stream'], '1 piece, not 2'),
  ],
)
def test_what_makes_no_sense_leaves_nothing_behind(
  model, tmp_path, options, match
):
  output = tmp_path / 'out'
  with pytest.raises((ValueError, OSError), match=match):
    generate.main([f'--model={model}', f'--output={output}', *options])
  assert not output.exists()


def test_the_output_is_a_folder(model, tmp_path):
  (tmp_path / 'out').write_text('')
  with pytest.raises(flags.UsageError, match='is a file; name a folder'):
    generate.main(
      [f'--model={model}', f'--output={tmp_path / "out"}', '--prompt=a']
    )


@pytest.mark.parametrize('dtype', ['int8', 'bfloat16'])
def test_stages_are_loaded_as_they_are_to_be_decoded(
  model, tmp_path, monkeypatch, dtype
):
  def compose(music_lm, *_, **__):
    heads = music_lm.cascade.fine.params['transformer']['layer_0']['attention']
    raise InterruptedError(heads['out']['kernel'].dtype.name)

  monkeypatch.setattr(generate, '_compose', compose)
  with pytest.raises(InterruptedError, match=dtype):
    run(model, tmp_path / 'out', '--prompt=calm', f'--dtype={dtype}')
