"""Thousands of malformed and hostile chunks, and thousands of control periods: no crash, no excess, no growth."""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
from action_bench import ActionBench, action_bench
from action_stage import CLOCK, HOME, MS, PROFILE, chunk_of
from hostile_chunks import hostile_chunk
from rclpy.logging import LoggingSeverity

from lingbot_va_msgs.msg import ActionState
from lingbot_va_ros.conversions import to_time

LIMITS = {name: PROFILE.limits(name) for name in ('lower', 'upper', 'velocity', 'acceleration')}
DT = CLOCK.action_ns * 1e-9
OUTCOMES = ('chunks', 'refused_chunks', 'ignored_chunks', 'duplicate_chunks')
ROUNDING = 1e-6


def check(path: np.ndarray) -> None:
    """Positions [commands, joints] are finite and within all limits."""
    assert np.isfinite(path).all()
    assert (path >= LIMITS['lower'] - ROUNDING).all()
    assert (path <= LIMITS['upper'] + ROUNDING).all()
    velocity = np.diff(path, axis=0) / DT
    assert (np.abs(velocity) <= LIMITS['velocity'] * (1 + 1e-6)).all()
    assert (np.abs(np.diff(velocity, axis=0)) <= LIMITS['acceleration'] * DT * (1 + 1e-6)).all()


@pytest.fixture(scope='module')
def bench() -> ActionBench:
    with action_bench() as bench:
        bench.node.get_logger().set_level(LoggingSeverity.FATAL)
        yield bench
        bench.node.get_logger().set_level(LoggingSeverity.INFO)


def test_ten_thousand_hostile_chunks_move_nothing_beyond_the_limits_and_each_is_accounted_for(
    bench: ActionBench,
) -> None:
    numbers, path = np.random.default_rng(5), []
    before, sent, resets, explanations = bench.counts, 0, 0, set()
    episode, index = bench.begin(), 1
    while sent < 10_000:
        chunk = hostile_chunk(numbers, episode, sent, index, bench.now_ns + 60 * MS)
        known = bench.counts
        bench.send(chunk)
        sent += 1
        changes = {name: bench.counts[name] - known[name] for name in OUTCOMES}
        assert sorted(changes.values()) == [0, 0, 0, 1], 'exactly one thing becomes of it'
        if changes['refused_chunks']:
            assert bench.node._refusal
            explanations.add(bench.node._refusal[:40])
        index = min(chunk.first_latent_index, 10**6) + 1 if changes['chunks'] else index
        if sent % 4 == 0:
            window = bench.tick()
            path.append(window[0].copy())
            check(np.vstack([path[-2:], window[1:]]) if len(path) > 1 else window)
        if bench.node._arming.latched:
            check(np.array(path or [HOME]))
            path, state = [], bench.node._arming.state(0, moving=False)
            assert state[0] == ActionState.FAULT
            assert state[1]
            bench.tick()
            while not bench.node._planner.at_rest:
                bench.tick()
            assert bench.reset().success
            bench.tick()
            resets += 1
            episode, index = bench.begin(), 1
        elif sent % 200 == 0:
            episode, index = bench.begin(), 1
    counts = {name: bench.counts[name] - before[name] for name in OUTCOMES}
    assert sum(counts.values()) == sent
    assert min(counts.values()) > 50, counts  # all of it was met with
    assert resets > 50
    assert len(explanations) > 20


def test_thousands_of_control_periods_of_motion_leave_memory_as_it_was(bench: ActionBench) -> None:
    bench.begin()
    if bench.node._arming.latched:
        assert bench.reset().success
    waves = HOME + 0.02 * np.sin(np.linspace(0, 2 * np.pi, 65))[1:, None] * LIMITS['velocity']

    def run(first: int, chunks: int) -> None:
        for number in range(first, first + chunks):
            chunk = chunk_of(waves, index=1 + 4 * number, number=number)
            chunk.episode = bench.node._episode.episode
            chunk.observation_stamps = [to_time(bench.now_ns)]
            bench.send(chunk, bench.now_ns + CLOCK.action_ns)
            for _ in range(64):
                bench.tick()

    def footprint() -> tuple[int, int]:
        gc.collect()
        return sys.getallocatedblocks(), int(Path('/proc/self/statm').read_text().split()[1]) * 4096

    frames = bench.node._stats.counts['chunks']
    run(0, 15)
    blocks, resident = footprint()
    run(15, 50)
    more_blocks, more_resident = footprint()
    assert bench.node._stats.counts['chunks'] - frames == 65
    assert more_blocks - blocks < 500
    assert more_resident - resident < 2 * 2**20
