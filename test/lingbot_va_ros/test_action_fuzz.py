"""Thousands of malformed and hostile chunks, and thousands of control periods: no crash, no excess, no growth."""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
from action_bench import ActionBench, action_bench
from action_stage import CLOCK, HOME, MS, PROFILE, Stage, chunk_of, positions
from hostile_chunks import hostile_chunk

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
        yield bench


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


def test_ten_thousand_control_periods_of_motion_leave_memory_as_it_was(bench: ActionBench) -> None:
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
    run(0, 20)
    blocks, resident = footprint()
    run(20, 80)
    more_blocks, more_resident = footprint()
    assert bench.node._stats.counts['chunks'] - frames == 100
    assert more_blocks - blocks < 500
    assert more_resident - resident < 2 * 2**20


def test_hundreds_of_hostile_chunks_over_dds_leave_the_node_ticking(stage: Stage) -> None:
    numbers = np.random.default_rng(7)
    before, begin = {name: int(getattr(stage.health(), name)) for name in OUTCOMES}, len(stage.commands)
    episode, sent = stage.begin(), 0

    def total() -> int:
        return sum(int(getattr(stage.health(), name)) - before[name] for name in OUTCOMES)

    while sent < 300:
        if stage.states[-1].state == ActionState.FAULT and stage.reset().success:
            episode = stage.begin()
        for _ in range(2):
            stage._chunks.publish(hostile_chunk(numbers, episode, sent, 1 + sent, stage.now() + 60 * MS))
            sent += 1
        stage.wait_for_commands(1)
    # A busy machine may lose some on the way: queues are short.
    stage.graph.wait_for(lambda: 0.8 * sent <= total() <= sent, what='the account of the chunks')
    assert stage.health().last_refusal
    commands = stage.commands[begin:]
    resting = [k for k in range(1, len(commands)) if commands[k].episode == commands[k - 1].episode]
    assert len(resting) > 50
    values = positions(commands)
    assert np.isfinite(values).all()
    assert (values >= LIMITS['lower'] - 1e-5).all()
    assert (values <= LIMITS['upper'] + 1e-5).all()
