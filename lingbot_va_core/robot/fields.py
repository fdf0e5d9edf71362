"""Checked reading of mappings: every mistake is noted with its place, its value and what is allowed."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TOPIC_PATTERN = re.compile(r'(?:/|~/)?[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*', re.ASCII)


@dataclass(frozen=True)
class Kind:
    """What a field may be: words for the user, and a function that returns the value to use or raises ValueError."""

    words: str
    convert: Callable[[Any], Any]


def _expect(condition: bool) -> None:
    if not condition:
        raise ValueError


def _number(value: object) -> float:
    _expect(isinstance(value, int | float) and not isinstance(value, bool))
    number = float(value)
    _expect(math.isfinite(number))
    return number


def _above_zero(value: object) -> float:
    number = _number(value)
    _expect(number > 0)
    return number


def _not_negative(value: object) -> float:
    number = _number(value)
    _expect(number >= 0)
    return number


def _whole(value: object) -> int:
    _expect(isinstance(value, int) and not isinstance(value, bool))
    return value


def _text(value: object) -> str:
    _expect(isinstance(value, str) and value.strip() != '')
    return value


def _topic(value: object) -> str:
    _expect(isinstance(value, str) and TOPIC_PATTERN.fullmatch(value) is not None and '__' not in value)
    return value


def _mapping(value: object) -> dict:
    _expect(isinstance(value, dict))
    return value


def _flag(value: object) -> bool:
    _expect(isinstance(value, bool))
    return value


def numbers(*lengths: int) -> Kind:
    """Return the kind of a list of so many finite numbers."""

    def convert(value: object) -> tuple[float, ...]:
        _expect(isinstance(value, list) and len(value) in lengths)
        return tuple(_number(item) for item in value)

    return Kind(f'a list of {" or ".join(map(str, lengths))} finite numbers', convert)


def choice(*names: str) -> Kind:
    """Return the kind of a word out of a few."""

    def convert(value: object) -> str:
        _expect(isinstance(value, str) and value in names)
        return value

    return Kind(f'one of {", ".join(names)}', convert)


def whole_between(low: int, high: int) -> Kind:
    """Return the kind of a whole number within limits."""

    def convert(value: object) -> int:
        _expect(low <= _whole(value) <= high)
        return value

    return Kind(f'a whole number from {low} to {high}', convert)


def whole_numbers(words: str, length: int, low: int) -> Kind:
    """Return the kind of a list of so many whole numbers, none below `low`; `words` say what they are."""

    def convert(value: object) -> tuple[int, ...]:
        _expect(isinstance(value, list) and len(value) == length)
        _expect(all(_whole(item) >= low for item in value))
        return tuple(value)

    return Kind(f'a list of {length} whole numbers: {words}', convert)


NUMBER = Kind('a finite number', _number)
ABOVE_ZERO = Kind('a finite number above 0', _above_zero)
NOT_NEGATIVE = Kind('a finite number, 0 or more', _not_negative)
WHOLE = Kind('a whole number', _whole)
TEXT = Kind('a text that is not empty', _text)
TOPIC = Kind('a ROS name: letters, digits, single underscores, parts divided by /, none beginning with a digit', _topic)
MAPPING = Kind('a mapping', _mapping)
FLAG = Kind('true or false', _flag)


def read_fields(
    value: object,
    where: str,
    required: Mapping[str, Kind],
    optional: Mapping[str, Kind],
    problems: list[str],
) -> dict[str, Any]:
    """Return the fields of a mapping that are as they should be, and note what is not in `problems`."""
    known = {**required, **optional}
    if not isinstance(value, dict):
        problems.append(f'{where} is {value!r:.80}; it must be a mapping with the fields {", ".join(required)}')
        return {}
    missing = [name for name in required if name not in value]
    unknown = [str(name) for name in value if name not in known]
    if missing or unknown:
        faults = [f'missing {", ".join(missing)}'] * bool(missing) + [f'unknown {", ".join(unknown)}'] * bool(unknown)
        problems.append(f'{where}: {"; ".join(faults)}; the fields are {", ".join(known)}')
    fields = {}
    for name in (name for name in known if name in value):
        try:
            fields[name] = known[name].convert(value[name])
        except (ValueError, OverflowError):
            path = f'{where}.{name}' if where != 'profile' else name
            problems.append(f'{path} is {value[name]!r:.80}; it must be {known[name].words}')
    return fields


def read_entries(value: Mapping, where: str, problems: list[str]) -> dict[str, object]:
    """Return the entries of a mapping whose names are the user's own, without those that are no text."""
    for name in value:
        if not isinstance(name, str) or not name.strip():
            problems.append(f'{where} has the name {name!r}; a name must be a text (write it in quotes)')
    return {name: entry for name, entry in value.items() if isinstance(name, str) and name.strip()}
