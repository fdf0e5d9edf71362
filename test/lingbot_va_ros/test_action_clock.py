"""A clock that jumps: back, as when a simulation starts again, and ahead, as when the process was held up."""

from collections.abc import Iterator

import numpy as np
import pytest
from action_bench import ActionBench, action_bench
from action_stage import CLOCK, HOME, chunk_of, ramp

from lingbot_va_msgs.msg import DualArmCommand

SECOND = 1_000_000_000


@pytest.fixture
def bench() -> Iterator[ActionBench]:
    with action_bench() as bench:
        yield bench


def move(bench: ActionBench, ticks: int = 10, speed: float = 0.5) -> None:
    """Start an episode and a motion, and let it run for a while."""
    chunk = chunk_of(ramp(speed, 4))
    chunk.episode = bench.begin()
    bench.send(chunk, bench.now_ns)
    for _ in range(ticks):
        bench.tick()
    assert bench.node._command.action_index >= 0


def test_when_the_clock_jumps_back_the_arms_brake_and_hold_and_the_next_episode_starts_from_the_measured_state(
    bench: ActionBench,
) -> None:
    move(bench)
    before = bench.node._planner.window.positions[0].copy()
    bench.now_ns -= 500 * SECOND
    path = np.array([bench.tick()[0].copy() for _ in range(20)])
    assert bench.counts['clock_jumps'] == 1
    assert bench.node._command.action_index == DualArmCommand.HOLD
    assert np.abs(path[0] - before).max() <= 0.5 * 0.02 + 1e-9, 'no step'
    np.testing.assert_array_equal(path[10:], np.tile(path[-1], (10, 1)))

    bench._measured = elsewhere = HOME + 0.2  # the simulation begins elsewhere
    bench.begin()
    bench.tick()
    np.testing.assert_allclose(bench.node._planner.window.positions[0][:6], elsewhere[:6], atol=1e-9)
    assert not bench.node._arming.latched


def test_an_episode_that_comes_while_the_arms_still_brake_waits_for_their_rest(bench: ActionBench) -> None:
    move(bench, speed=2.0)
    path = [bench.node._planner.window.positions[0].copy()]
    bench.now_ns -= 500 * SECOND
    path.append(bench.tick()[0].copy())
    bench.begin()
    while not bench.node._planner.at_rest:
        bench._measured = elsewhere = path[-1] - 0.1  # the arms lag behind
        path.append(bench.tick()[0].copy())
    speeds = np.diff(path, axis=0)[:, :6] / 0.02
    assert len(path) > 4
    assert np.abs(np.diff(speeds, axis=0)).max() <= 20.0 * 0.02 * 1.01, 'no harder than the limits allow'
    bench._measured = elsewhere
    np.testing.assert_allclose(bench.tick()[0][:6], elsewhere[:6], atol=1e-9)


def test_a_process_that_was_held_up_goes_on_from_where_its_last_window_has_brought_the_arms(bench: ActionBench) -> None:
    move(bench)
    rest = bench.node._planner.window.positions[-1].copy()
    lag = bench.node._planner.timeline.lag_ns
    bench.now_ns += 25 * CLOCK.action_ns
    after = bench.tick()[0]
    assert np.abs(after - rest).max() <= 20 * 0.02**2 + 1e-9, 'from rest, no harder than the limits allow'
    assert bench.node._planner.timeline.lag_ns - lag >= 16 * CLOCK.action_ns, 'the motion is that much later'
    assert bench.counts['overruns'] == 1
    bench.now_ns += 2 * CLOCK.action_ns
    bench.tick()
    assert bench.counts['overruns'] == 2
    for _ in range(70):
        bench.tick()
    np.testing.assert_allclose(bench.node._planner.window.positions[0], ramp(0.5, 4)[-1], atol=2e-3)
