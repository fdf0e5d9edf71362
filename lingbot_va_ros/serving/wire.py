"""Messages as bytes: msgpack, with NumPy arrays as maps {b'__ndarray__': true, b'data', b'dtype', b'shape'}.

Only plain numbers are arrays; nothing that arrives is ever executed, and what it can take of memory is limited by the
length of the message.
"""

import math
from typing import Any

import msgpack
import numpy as np

ARRAY = b'__ndarray__'
KINDS = 'buif'  # boolean, unsigned, signed, floating
MAX_DIMENSIONS = 8
MAX_ITEMS = 100_000  # in all lists and maps of a message: an item of one byte takes a hundred in memory
LONGEST_DTYPE = 16


class WireError(ValueError):
    """Bytes that are no message."""


def pack(value: Any) -> bytes:
    """Write a value; raises WireError for what the format cannot hold."""
    try:
        return msgpack.packb(value, default=_write_array)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f'a message cannot hold this: {error}') from error


def unpack(message: bytes) -> Any:
    """Read a value; its arrays are read-only and share the message's memory where they can.

    Raises:
        WireError: it is not msgpack, nests too deeply, has more than `MAX_ITEMS` items, or an array is malformed.
    """
    left = MAX_ITEMS

    def count(items: list | dict) -> None:
        nonlocal left
        left -= len(items)
        if left < 0:
            raise WireError(f'the message has more than {MAX_ITEMS} items; send images and actions as arrays')

    def read_list(items: list) -> list:
        count(items)
        return items

    def read_map(items: dict) -> Any:
        count(items)
        return _read_array(items) if ARRAY in items else items

    try:
        return msgpack.unpackb(
            message, list_hook=read_list, object_hook=read_map, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS
        )
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise WireError(f'the message cannot be read as msgpack: {reason:.200}') from error


def _write_array(value: Any) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray) and value.dtype.kind in KINDS:
        return {ARRAY: True, b'data': value.tobytes(), b'dtype': value.dtype.str, b'shape': value.shape}
    raise TypeError(f'{type(value).__name__} {getattr(value, "dtype", "")}'.strip())


def _read_array(items: dict) -> np.ndarray:
    data, shape = items.get(b'data'), items.get(b'shape')
    dtype = _read_dtype(items.get(b'dtype'))
    if not isinstance(data, bytes):
        raise WireError(f'the data of an array is {type(data).__name__}; it must be binary')
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_DIMENSIONS
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        raise WireError(f'the shape of an array is {shape!r:.80}; give at most {MAX_DIMENSIONS} sizes from 0')
    if math.prod(shape) * dtype.itemsize != len(data):
        raise WireError(f'an array of {dtype.name} {shape} has {len(data)} bytes; it must have as many as its items')
    return np.frombuffer(data, dtype).reshape(shape)


def _read_dtype(name: object) -> np.dtype:
    problem = f'the dtype of an array is {name!r:.40}; send numbers such as |u1 or <f4'
    if not isinstance(name, str) or len(name) > LONGEST_DTYPE:
        raise WireError(problem)
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError) as error:
        raise WireError(problem) from error
    if dtype.kind not in KINDS or dtype.subdtype is not None or dtype.itemsize > 8:
        raise WireError(problem)
    return dtype
