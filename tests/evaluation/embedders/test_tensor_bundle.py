# SPDX-License-Identifier: Apache-2.0
import pathlib

import numpy as np
import pytest

from musiclm_jax.evaluation.embedders import tensor_bundle


def _write(folder: pathlib.Path, arrays: dict[str, np.ndarray]) -> list:
  import tensorflow

  tensorflow.raw_ops.SaveV2(
    prefix=str(folder / 'model'),
    tensor_names=list(arrays),
    shape_and_slices=[''] * len(arrays),
    tensors=list(arrays.values()),
  )
  return [
    folder / 'model.index',
    folder / 'model.data-00000-of-00001',
  ]


def _arrays() -> dict[str, np.ndarray]:
  """Enough of them, of long names in common, to fill several blocks."""
  draw = np.random.default_rng(0)
  arrays = {
    f'a_long_prefix/of/layer_{n}/kernel': draw.standard_normal(
      (3, n % 5 + 1), np.float32
    )
    for n in range(3_001)
  }
  arrays['a_long_prefix/step'] = np.array(2**40 + 7, np.int64)
  arrays['doubles'] = draw.standard_normal((2, 0, 3))
  arrays['counts'] = np.array([3, -5], np.int32)
  return arrays


@pytest.mark.slow
def test_what_tensorflow_saves_is_read(tmp_path):
  arrays = _arrays()
  found = tensor_bundle.read(*_write(tmp_path, arrays))
  assert sorted(found) == sorted(arrays)
  for name, array in arrays.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)


@pytest.mark.slow
def test_files_that_are_cut_short_or_of_another_type_are_errors(tmp_path):
  index, data = _write(tmp_path, _arrays())
  short = tmp_path / 'short'
  short.write_bytes(data.read_bytes()[:-8])
  with pytest.raises(ValueError, match='index and data of the same'):
    tensor_bundle.read(index, short)
  index, data = _write(tmp_path, {'texts': np.array(['a', 'b'])})
  with pytest.raises(ValueError, match='type 7'):
    tensor_bundle.read(index, data)


def test_a_table_is_read_by_hand(tmp_path):
  # Two keys, 'kernel' and 'kernels', float32 of shape [2] and int32 of [].
  entries = [
    (b'', b''),
    (b'kernel', bytes([8, 1, 18, 4, 18, 2, 8, 2, 40, 8])),
    (b'kernels', bytes([8, 3, 32, 8, 40, 4, 53, 1, 2, 3, 4])),
  ]
  block = bytes([0, 0, 0]) + bytes([0, 6, len(entries[1][1])])
  block += entries[1][0] + entries[1][1]
  block += bytes([6, 1, len(entries[2][1])]) + b's' + entries[2][1]
  block += (0).to_bytes(4, 'little') + (1).to_bytes(4, 'little')
  handle = bytes([0, len(block)])
  top = bytes([0, 1, len(handle)]) + b'z' + handle
  top += (0).to_bytes(4, 'little') + (1).to_bytes(4, 'little')
  footer = bytes([0, 0, len(block) + 5, len(top)]).ljust(40, b'\0')
  magic = (0xDB4775248B80FB57).to_bytes(8, 'little')
  index, data = tmp_path / 'index', tmp_path / 'data'
  index.write_bytes(block + bytes(5) + top + bytes(5) + footer + magic)
  numbers = np.array([1.5, -2], np.float32).tobytes()
  data.write_bytes(numbers + np.array(7, np.int32).tobytes())

  found = tensor_bundle.read(index, data)

  assert found.keys() == {'kernel', 'kernels'}
  np.testing.assert_array_equal(found['kernel'], np.float32([1.5, -2]))
  assert found['kernels'] == 7 and found['kernels'].dtype == np.int32


@pytest.mark.parametrize(
  'table', [b'', b'not a table' * 9], ids=['empty', 'other']
)
def test_another_file_is_refused(tmp_path, table: bytes):
  (tmp_path / 'index').write_bytes(table)
  (tmp_path / 'data').write_bytes(b'')
  with pytest.raises(ValueError, match='index of a TensorFlow checkpoint'):
    tensor_bundle.read(tmp_path / 'index', tmp_path / 'data')
