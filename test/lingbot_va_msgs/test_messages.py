"""The generated Python classes against the definitions that they come from, and two implementations of CDR."""

from array import array
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosidl_adapter.parser import (
    Field,
    MessageSpecification,
    parse_action_string,
    parse_message_string,
    parse_service_string,
)

from lingbot_va_msgs import action, msg, srv

PACKAGE = 'lingbot_va_msgs'
SOURCE = Path(__file__).resolve().parents[2] / PACKAGE
IDL_NAMES = {'bool': 'boolean', 'float32': 'float', 'float64': 'double'}
ARRAY_CODES = {'uint8': 'B', 'uint32': 'I', 'float32': 'f'}


def specifications() -> dict[str, tuple[type, MessageSpecification]]:
    """Return every message of the package, with those that services and actions consist of, by name."""
    found = {}
    for path in sorted(SOURCE.glob('msg/*.msg')):
        found[path.stem] = getattr(msg, path.stem), parse_message_string(PACKAGE, path.stem, path.read_text())
    for path in sorted(SOURCE.glob('srv/*.srv')):
        service, parsed = getattr(srv, path.stem), parse_service_string(PACKAGE, path.stem, path.read_text())
        found[f'{path.stem}.Request'] = service.Request, parsed.request
        found[f'{path.stem}.Response'] = service.Response, parsed.response
    for path in sorted(SOURCE.glob('action/*.action')):
        task, parsed = getattr(action, path.stem), parse_action_string(PACKAGE, path.stem, path.read_text())
        found[f'{path.stem}.Goal'] = task.Goal, parsed.goal
        found[f'{path.stem}.Result'] = task.Result, parsed.result
        found[f'{path.stem}.Feedback'] = task.Feedback, parsed.feedback
    return found


ALL = specifications()
MESSAGES = sorted(path.stem for path in SOURCE.glob('msg/*.msg'))
BOUNDED = [(name, field) for name, (_, spec) in ALL.items() for field in spec.fields
           if field.type.is_array or field.type.string_upper_bound]


def idl_type(field: Field) -> str:
    """Return how rosidl's Python classes call the type of a field."""
    kind = field.type
    name = f'{kind.pkg_name}/{kind.type}' if kind.pkg_name else IDL_NAMES.get(kind.type, kind.type)
    if kind.string_upper_bound:
        name += f'<{kind.string_upper_bound}>'
    if not kind.is_array:
        return name
    if kind.array_size is None:
        return f'sequence<{name}>'
    return f'sequence<{name}, {kind.array_size}>' if kind.is_upper_bound else f'{name}[{kind.array_size}]'


def element(field: Field, rng: np.random.Generator) -> Any:
    """Return a random value of the field's type, as long as its bound allows where that is a string."""
    kind = field.type
    if kind.pkg_name:
        nested = getattr(import_module(f'{kind.pkg_name}.msg'), kind.type)
        if kind.type == 'Header':
            stamp = type(nested().stamp)(sec=int(rng.integers(2**31)), nanosec=int(rng.integers(10**9)))
            return nested(stamp=stamp, frame_id='canvas')
        return nested(sec=int(rng.integers(2**31)), nanosec=int(rng.integers(10**9)))
    if kind.type == 'string':
        return ''.join(rng.choice(list('abcdefgh_/'), kind.string_upper_bound or 100))
    if kind.type == 'bool':
        return bool(rng.integers(2))
    if kind.type.startswith('float'):
        return float(np.float32(rng.normal()))
    limits = np.iinfo(kind.type)
    return int(rng.integers(limits.min, limits.max, endpoint=True, dtype=kind.type))


def elements(field: Field, count: int, rng: np.random.Generator) -> Any:
    """Return `count` random values in the type that rosidl has for them: numpy.ndarray, array.array or list."""
    if field.type.type not in ARRAY_CODES:
        return [element(field, rng) for _ in range(count)]
    values = (rng.random(count) * 200).astype(field.type.type)
    return array(ARRAY_CODES[field.type.type], values.tobytes()) if field.type.is_upper_bound else values


def filled(name: str, seed: int = 0) -> Any:
    """Return a message in which no field has its default and every bounded one is as long as it may be."""
    rng = np.random.default_rng(seed)
    kind, spec = ALL[name]
    message = kind()
    for field in spec.fields:
        value = elements(field, field.type.array_size, rng) if field.type.is_array else element(field, rng)
        setattr(message, field.name, value)
    return message


def plain(value: Any) -> Any:
    """Return a message of either library as nested lists and dictionaries, for comparison."""
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, 'tolist'):
        return value.tolist()
    if isinstance(value, list):
        return [plain(v) for v in value]
    if hasattr(value, 'get_fields_and_field_types'):
        names = list(value.get_fields_and_field_types())
    else:  # rosbags keeps constants beside the fields
        names = [n for n in vars(value) if not n.startswith('__') and not n.isupper()]
    return {n: plain(getattr(value, n)) for n in names}


@pytest.fixture(scope='module')
def typestore() -> Any:
    """Types that rosbags read from the definitions, without rosidl."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for name in MESSAGES:
        types.update(get_types_from_msg((SOURCE / 'msg' / f'{name}.msg').read_text(), f'{PACKAGE}/msg/{name}'))
    store.register(types)
    return store


def test_every_definition_is_built():
    built = (SOURCE / 'CMakeLists.txt').read_text()
    defined = [p.relative_to(SOURCE).as_posix() for kind in ('msg', 'srv', 'action') for p in SOURCE.glob(f'{kind}/*')]
    assert defined
    assert [d for d in defined if d not in built] == []


@pytest.mark.parametrize('name', ALL)
def test_fields_types_and_bounds_are_those_of_the_definition(name):
    kind, spec = ALL[name]
    assert kind.get_fields_and_field_types() == {field.name: idl_type(field) for field in spec.fields}


@pytest.mark.parametrize('name', ALL)
def test_constants_are_those_of_the_definition(name):
    kind, spec = ALL[name]
    assert {c.name: getattr(kind, c.name) for c in spec.constants} == {c.name: c.value for c in spec.constants}


@pytest.mark.parametrize('name', ALL)
def test_full_message_survives_serialization(name):
    message = filled(name)
    assert plain(message) != plain(ALL[name][0]())
    assert plain(deserialize_message(serialize_message(message), type(message))) == plain(message)


@pytest.mark.parametrize('name', MESSAGES)
@pytest.mark.parametrize('full', [True, False], ids=['full', 'empty'])
def test_rosbags_reads_and_writes_what_rclpy_does(name, full, typestore):
    message = filled(name) if full else ALL[name][0]()
    typename = f'{PACKAGE}/msg/{name}'
    read = typestore.deserialize_cdr(serialize_message(message), typename)
    assert plain(read) == plain(message)
    written = bytes(typestore.serialize_cdr(read, typename))
    assert plain(deserialize_message(written, type(message))) == plain(message)


@pytest.mark.parametrize(('name', 'field'), BOUNDED, ids=[f'{n}.{f.name}' for n, f in BOUNDED])
def test_value_above_its_bound_is_refused(name, field):
    message, rng = ALL[name][0](), np.random.default_rng(1)
    if field.type.is_array:
        assert field.type.array_size, f'{name}.{field.name} has no bound'
        too_long = elements(field, field.type.array_size + 1, rng)
    else:
        too_long = 'x' * (field.type.string_upper_bound + 1)
    with pytest.raises(AssertionError, match=field.name):
        setattr(message, field.name, too_long)


@pytest.mark.parametrize('values', [[0.0] * 29, [0.0] * 31, np.zeros(29, np.float32), np.zeros(31, np.float32)],
                         ids=['29 in a list', '31 in a list', '29 in an ndarray', '31 in an ndarray'])
def test_command_has_thirty_values(values):
    with pytest.raises(AssertionError, match='values'):
        msg.DualArmCommand(values=values)


def test_sequence_extended_beyond_its_bound_is_not_published():
    frame = msg.LatentFrame()
    frame.data.frombytes(bytes(msg.LatentFrame.MAX_BYTES + 1))  # the setter, which checks, is not called
    data = None
    with pytest.raises(Exception, match='serialize'):
        data = serialize_message(frame)
    assert data is None


def test_limits_of_the_messages_agree():
    bounds = {name: {f.name: f.type.array_size for f in spec.fields} for name, (_, spec) in ALL.items()}
    assert bounds['LatentFrame']['data'] == msg.LatentFrame.MAX_BYTES
    assert bounds['ActionChunk']['actions'] == bounds['ExecutedActions']['actions'] == msg.ActionChunk.MAX_ACTIONS * 30
    assert bounds['ActionChunk']['mask'] == bounds['DualArmCommand']['values'] == 30


@pytest.mark.parametrize('name', MESSAGES)
def test_message_arrives_as_it_was_sent(name, graph):
    message = filled(name, seed=2)
    received = graph.collect(f'roundtrip/{name}', type(message))
    publisher = graph.node.create_publisher(type(message), f'roundtrip/{name}', 10)
    graph.wait_for(publisher.get_subscription_count)
    publisher.publish(message)
    graph.wait_for(lambda: received)
    assert plain(received[0]) == plain(message)
