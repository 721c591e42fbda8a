# SPDX-License-Identifier: Apache-2.0
"""Arrays out of a TensorFlow checkpoint, without TensorFlow.

A checkpoint of the second version is a table of names (.index) and the numbers
themselves (.data-00000-of-00001). The table is LevelDB's (its documentation,
`table_format.md`): blocks of keys that share prefixes with the key before, a
block of blocks, and a footer that says where that is. A value of it is a
`BundleEntryProto` (TensorFlow, `tensor_bundle.proto`): type, shape, shard,
offset, size. Uncompressed tables of one shard are read, as TensorFlow's own
saver writes them; anything else is an error.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import numpy as np

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57
_BLOCK_TRAILER_BYTES = 5  # Of which the first names the compression.

# `DataType` of TensorFlow's `types.proto`; others are left unread.
_TYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64}

# Fields of `BundleEntryProto`, of `TensorShapeProto` and of its `Dim`.
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE = 1, 2, 3, 4, 5
_DIM, _DIM_SIZE = 2, 1


def read(
  index: str | os.PathLike[str], data: str | os.PathLike[str]
) -> dict[str, np.ndarray]:
  """All arrays of a checkpoint, by name.

  Args:
    index: The file that ends in .index.
    data: The file that ends in .data-00000-of-00001.

  Raises:
    ValueError: They are no checkpoint of that kind, or do not go together.
  """
  table = pathlib.Path(index).read_bytes()
  numbers = pathlib.Path(data).read_bytes()
  if int.from_bytes(table[-8:], 'little') != _MAGIC:
    raise ValueError(
      f'{index} does not end as the index of a TensorFlow checkpoint does; give'
      ' the .index file of one.'
    )
  footer = table[-_FOOTER_BYTES:]
  _, place = _varint(footer, 0)  # The block of statistics: where, and its size.
  _, place = _varint(footer, place)
  arrays = {}
  for _, handle in _entries(_block(table, footer[place:], path=index)):
    for name, value in _entries(_block(table, handle, path=index)):
      if name:  # The one without a name tells how many shards there are.
        arrays[name.decode()] = _array(value, numbers, name=name, path=data)
  return arrays


def _block(table: bytes, handle: bytes, *, path: os.PathLike | str) -> bytes:
  """The block at an offset and of a size, both in `handle`."""
  offset, place = _varint(handle, 0)
  size, _ = _varint(handle, place)
  block = table[offset : offset + size + _BLOCK_TRAILER_BYTES]
  if len(block) != size + _BLOCK_TRAILER_BYTES or block[size] != 0:
    raise ValueError(
      f'{path} is cut short or compressed; save the checkpoint again with'
      ' TensorFlow.'
    )
  return block[:size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
  """Keys and values; at the end stands how many places to restart at."""
  num_restarts = int.from_bytes(block[-4:], 'little')
  end, place, key = len(block) - 4 * (num_restarts + 1), 0, b''
  while place < end:
    shared, place = _varint(block, place)
    own, place = _varint(block, place)
    size, place = _varint(block, place)
    key = key[:shared] + block[place : place + own]
    place += own
    yield key, block[place : place + size]
    place += size


def _array(
  entry: bytes, numbers: bytes, *, name: bytes, path: os.PathLike | str
) -> np.ndarray:
  fields = dict(_fields(entry))
  dtype = _TYPES.get(fields.get(_DTYPE, 0))
  offset, size = fields.get(_OFFSET, 0), fields.get(_SIZE, 0)
  shape = [
    dict(_fields(dim)).get(_DIM_SIZE, 0)
    for field, dim in _fields(fields.get(_SHAPE, b''))
    if field == _DIM
  ]
  if dtype is None or fields.get(_SHARD, 0) or offset + size > len(numbers):
    raise ValueError(
      f'{name.decode()!r} is not in {path} as numbers of a type that is read'
      f' (type {fields.get(_DTYPE)}, bytes {offset} to {offset + size} of'
      f' {len(numbers)}); give a checkpoint of one shard, index and data of the'
      ' same.'
    )
  return np.frombuffer(numbers[offset : offset + size], dtype).reshape(shape)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
  """Fields of a protocol-buffers message: numbers, or bytes as they stand."""
  place = 0
  while place < len(message):
    tag, place = _varint(message, place)
    field, wire = tag >> 3, tag & 7
    if wire == 0:
      value, place = _varint(message, place)
    elif wire == 2:
      size, place = _varint(message, place)
      value, place = message[place : place + size], place + size
    else:  # Fixed: 8 bytes or 4, a checksum.
      size = {1: 8, 5: 4}[wire]
      value, place = message[place : place + size], place + size
    yield field, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
  """A number in groups of seven bits, lowest first, and where it ends."""
  value = shift = 0
  while True:
    byte = data[place]
    place += 1
    value |= (byte & 127) << shift
    shift += 7
    if byte < 128:
      return value, place
