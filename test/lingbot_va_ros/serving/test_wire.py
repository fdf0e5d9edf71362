"""Messages as bytes and back."""

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lingbot_va_ros.serving.wire import MAX_ITEMS, WireError, pack, unpack

NUMBERS = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(),
    arrays.unsigned_integer_dtypes(),
    arrays.floating_dtypes(sizes=(16, 32, 64)),
)


@given(st.data())
def test_arrays_come_back_as_they_were(data: st.DataObject) -> None:
    array = data.draw(arrays.arrays(data.draw(NUMBERS), arrays.array_shapes(min_dims=0, max_dims=4, min_side=0)))
    back = unpack(pack({'a': [array]}))['a'][0]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


def test_an_array_is_the_map_of_the_protocol() -> None:
    packed = msgpack.unpackb(pack(np.array([[1.5], [2.0]], np.float32).T))
    assert packed == {
        b'__ndarray__': True,
        b'data': np.array([1.5, 2.0], '<f4').tobytes(),
        b'dtype': '<f4',
        b'shape': [1, 2],
    }


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(message: bytes) -> None:
    try:
        unpack(message)
    except WireError as error:
        assert str(error)


@pytest.mark.parametrize('value', [np.array([{}]), np.array(['a']), np.array([1j]), object(), 1 << 70])
def test_what_is_not_plain_is_not_sent(value: object) -> None:
    with pytest.raises(WireError, match='a message cannot hold this'):
        pack({'a': value})


@pytest.mark.parametrize(
    'dtype', ['|O', 'O', '<c8', '|V8', '<U1', '<M8[s]', 'f4,f4', '(2,)f4', '<f16', '', None, 4, 'f' * 99]
)
def test_only_plain_numbers_are_read(dtype: object) -> None:
    message = msgpack.packb({b'__ndarray__': True, b'data': b'12345678', b'dtype': dtype, b'shape': [1]})
    with pytest.raises(WireError, match='the dtype of an array is'):
        unpack(message)


def test_a_message_cannot_take_much_more_memory_than_its_length() -> None:
    with pytest.raises(WireError, match=f'more than {MAX_ITEMS} items'):
        unpack(msgpack.packb([[[]] * 1000] * 101))
