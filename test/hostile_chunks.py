"""Action chunks that no world model should send."""

import array
from collections.abc import Callable

import numpy as np
from action_stage import CLOCK, HOME, PROFILE, chunk_of
from builtin_interfaces.msg import Duration, Time

from lingbot_va_msgs.msg import ActionChunk
from lingbot_va_ros.conversions import to_duration, to_ns, to_time

Change = Callable[[ActionChunk, np.random.Generator], None]


def _spoil(chunk: ActionChunk, numbers: np.random.Generator, values: list[float]) -> None:
    actions = np.array(chunk.actions, dtype=np.float32)
    where = numbers.integers(len(actions), size=numbers.integers(1, 20))
    actions[where] = numbers.choice(values, size=len(where))
    chunk.actions = array.array('f', actions.tobytes())


def _not_finite(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    _spoil(chunk, numbers, [np.nan, np.inf, -np.inf])


def _huge(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    _spoil(chunk, numbers, [3e38, -3e38, 1e10, -1e4, 100.0, 1e-40])


def _jumps(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    rows = numbers.uniform(PROFILE.limits('lower') - 0.5, PROFILE.limits('upper') + 0.5, (len(chunk.actions) // 30, 14))
    chunk.actions = array.array('f', PROFILE.to_universal(rows).tobytes())


def _length(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    chunk.actions = array.array('f', bytes(4 * int(numbers.integers(0, 7681))))


def _frames(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    chunk.latent_frames = int(numbers.choice([0, 2, 17, 65535]))


def _rate(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    chunk.actions_per_latent = int(numbers.choice([0, 1, 8, 15, 65535]))


def _mask(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    chunk.mask = (numbers.random(30) < 0.5).tolist()


def _stamp(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    sec = int(numbers.choice([-(2**31), -1, 0, 1, 2**31 - 1]))
    chunk.header.stamp = Time(sec=sec, nanosec=int(numbers.integers(2**32)))


def _offset(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    offset = int(numbers.choice([-10, -3, -0.5, 0.5, 3, 1000]) * 1e9)
    stamp = to_ns(chunk.header.stamp) + offset
    chunk.header.stamp = to_time(min(max(stamp, -(2**31) * 10**9), (2**31 - 1) * 10**9))


def _dt(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    sec = int(numbers.choice([-(2**31), -1, 0, 0, 2, 2**31 - 1]))
    chunk.dt = Duration(sec=sec, nanosec=int(numbers.choice([0, 1, 19_999_999, 40_000_000, 2**32 - 1])))


def _number(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    chunk.chunk = int(numbers.choice([0, chunk.chunk, max(chunk.chunk - 1, 0), 2**32 - 1]))


def _index(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    chunk.first_latent_index = int(numbers.choice([0, 1, max(chunk.first_latent_index - 2, 0), 10**6, 2**32 - 1]))


def _episode(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    chunk.episode = int(numbers.choice([0, (chunk.episode + 1) % 2**32, 2**32 - 1]))


def _provenance(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    stamps = [Time(sec=int(s), nanosec=0) for s in numbers.integers(-(2**31), 2**31, size=numbers.integers(0, 65))]
    chunk.observation_stamps = stamps
    chunk.observation_indices = [2**32 - 1] * len(stamps)


def _nothing(chunk: ActionChunk, numbers: np.random.Generator) -> None:
    """A chunk that is good as it is; without some, nothing would move."""


CHANGES: tuple[Change, ...] = (
    _not_finite, _huge, _jumps, _length, _frames, _rate, _mask, _stamp, _offset, _dt, _number, _index, _episode,
    _provenance, _nothing, _nothing, _nothing,
)  # fmt: skip


def hostile_chunk(numbers: np.random.Generator, episode: int, number: int, index: int, start_ns: int) -> ActionChunk:
    """A plausible chunk, spoiled in up to three ways."""
    frames = int(numbers.integers(1, 5))
    amplitude = 0.1 * numbers.random()
    phase = np.linspace(0, np.pi, 16 * frames)[:, None]
    chunk = chunk_of(HOME + amplitude * np.sin(phase) * (PROFILE.limits('upper') - HOME), index, number)
    chunk.episode, chunk.header.stamp, chunk.dt = episode, to_time(start_ns), to_duration(CLOCK.action_ns)
    for k in numbers.integers(len(CHANGES), size=numbers.integers(1, 4)):
        CHANGES[k](chunk, numbers)
    return chunk
