"""ROS message types for a DDS that knows nothing of ROS, derived from the interfaces' own field lists."""

import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import new_class
from typing import Any

from cyclonedds.idl import IdlStruct
from cyclonedds.idl import types as idl

PRIMITIVES = {
    'boolean': bool,
    'octet': idl.uint8,
    'uint8': idl.uint8,
    'int8': idl.int8,
    'int16': idl.int16,
    'uint16': idl.uint16,
    'int32': idl.int32,
    'uint32': idl.uint32,
    'int64': idl.int64,
    'uint64': idl.uint64,
    'float': idl.float32,
    'double': idl.float64,
    'string': str,
}


@cache
def dds_type(kind: type) -> type:
    """Return the structure `pkg::msg::dds_::Type_` that a ROS message class is on the wire."""
    package, name = kind.__module__.split('.')[0], kind.__name__
    fields = {field: _field(text) for field, text in kind.get_fields_and_field_types().items()}
    typename = f'{package}::msg::dds_::{name}_'
    return dataclass(new_class(f'{name}_', (IdlStruct,), {'typename': typename}, lambda body: _fill(body, fields)))


def _fill(body: dict[str, Any], fields: dict[str, Any]) -> None:
    body['__annotations__'] = fields
    body['__module__'] = __name__


def _field(text: str) -> Any:
    if match := re.fullmatch(r'sequence<(.+?)(?:, (\d+))?>', text):
        inner, bound = _field(match[1]), match[2]
        return idl.sequence[inner, int(bound)] if bound else idl.sequence[inner]
    if match := re.fullmatch(r'(.+)\[(\d+)\]', text):
        return idl.array[_field(match[1]), int(match[2])]
    if text.startswith('string<'):
        return idl.bounded_str[int(text[7:-1])]
    if text in PRIMITIVES:
        return PRIMITIVES[text]
    package, name = text.split('/')
    return dds_type(getattr(import_module(f'{package}.msg'), name))
