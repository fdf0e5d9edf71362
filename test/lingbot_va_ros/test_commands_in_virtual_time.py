"""An episode in virtual time sends what the action node sends for the same chunks at the same instants, to the bit."""

from collections.abc import Iterator

import numpy as np
import pytest
from action_bench import ActionBench, action_bench
from action_stage import CLOCK, MS, PROFILE
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.logging import LoggingSeverity
from replayed_session import ROWS, NoLatents, ReplayedSession
from sample_messages import make_chunk

from lingbot_va_core.command_planner import Command, CommandPlanner
from lingbot_va_core.motion import Splice
from lingbot_va_core.pacing import Pacer
from lingbot_va_core.session import MODES
from lingbot_va_core.virtual_time import VirtualEpisode
from lingbot_va_msgs.msg import ActionChunk
from lingbot_va_ros.conversions import actions_field, to_duration, to_ns, to_time

FRAMES = 7


class Arms:
    """Arms that are where they are told to be."""

    success = False

    def __init__(self, position: np.ndarray) -> None:
        self.position = position

    def measured(self) -> np.ndarray:
        return self.position

    def images(self) -> list:
        return []

    def command(self, joints: np.ndarray) -> None:
        self.position = joints

    def step(self) -> None: ...


class RecordedPlanner(CommandPlanner):
    """Remembers each control period: chunks that came before its command, the command, and the window that was sent."""

    def __init__(self) -> None:
        super().__init__(PROFILE)
        self.periods: list[tuple[list[ActionChunk], Command, np.ndarray]] = []
        self._came: list[ActionChunk] = []

    def splice(self, first_latent_index: int, start_ns: int, dt_ns: int, actions: np.ndarray, chunk: int) -> Splice:
        message = make_chunk(
            chunk=chunk, first_latent_index=first_latent_index, latent_frames=len(actions) // ROWS,
            dt=to_duration(dt_ns), actions=actions_field(PROFILE.to_universal(actions)),
        )  # fmt: skip
        message.header.stamp = to_time(start_ns)
        self._came.append(message)
        return super().splice(first_latent_index, start_ns, dt_ns, actions, chunk)

    def step(self, now_ns: int, speed: float) -> Command:
        command = super().step(now_ns, speed)
        self.periods.append((self._came, command, self.window.positions))
        self._came = []
        return command


@pytest.fixture(scope='module')
def bench() -> Iterator[ActionBench]:
    with action_bench() as bench:
        bench.node.get_logger().set_level(LoggingSeverity.FATAL)
        yield bench
        bench.node.get_logger().set_level(LoggingSeverity.INFO)


@pytest.fixture(scope='module')
def planner() -> RecordedPlanner:
    return RecordedPlanner()


def wander(seed: int, start: np.ndarray, size: float) -> np.ndarray:
    """Universal actions [steps, 30] of joints that go from `start` to random places within and beyond their limits."""
    random, lower, upper = np.random.default_rng(seed), PROFILE.limits('lower'), PROFILE.limits('upper')
    steps = FRAMES * ROWS
    at = np.cumsum(random.integers(3, 30, steps))
    places = start + size * (random.uniform(1.1 * lower, 1.1 * upper, (steps, len(start))) - start)
    rows = [np.interp(np.arange(1, steps + 1), [0, *at], column) for column in np.vstack([start, places]).T]
    return PROFILE.to_universal(np.array(rows).T)


def rest(bench: ActionBench) -> np.ndarray:
    """Bring the node to rest without a plan or a fault, and return where it is then, [joints]."""
    bench.begin()
    position = bench.tick()[0]
    while not bench.node._planner.at_rest:
        position = bench.tick()[0]
    if bench.node._arming.latched:
        assert bench.reset().success
        position = bench.tick()[0]
    return position.copy()


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([0.05, 0.3, 1.0]),
    mode=st.sampled_from(MODES),
    late=st.sampled_from(['hold', 'slow']),
    frames=st.integers(1, 3),
    latency_ms=st.integers(0, 1200),
)
def test_the_same_chunks_at_the_same_instants_give_the_same_commands(
    bench: ActionBench, planner: RecordedPlanner, seed: int, size: float, mode: str, late: str, frames: int,
    latency_ms: int,
) -> None:  # fmt: skip
    start = rest(bench)
    planner.periods.clear()
    session = ReplayedSession(wander(seed, start, size), frames, ahead=mode != 'sync')
    episode = VirtualEpisode(
        session, Pacer(CLOCK, mode, 20 * MS, late), planner, Arms(start), NoLatents(), latency_ms * MS, 20 * MS
    )
    executed = list(episode.run('move', 20_000 * MS, FRAMES))
    assert executed or episode.refused
    bench.begin()
    begin = bench.now_ns + CLOCK.action_ns
    for chunks, command, window in planner.periods:
        for chunk in chunks:
            chunk.episode, chunk.observation_stamps = bench.node._episode.episode, [to_time(bench.now_ns)]
            bench.send(chunk, begin + to_ns(chunk.header.stamp))
        np.testing.assert_array_equal(bench.tick(), window)
        sent = bench.node._command
        np.testing.assert_array_equal(sent.values, PROFILE.to_universal(command.action))
        assert (sent.action_index, sent.limits) == (command.index, command.limits)
        np.testing.assert_array_equal(sent.limited_channels, command.limited_channels)
    assert bench.node._arming.latched == bool(episode.refused)
