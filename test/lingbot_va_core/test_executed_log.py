"""What was sent is reported on the motion clock, exactly, whatever the speed was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingbot_va_core.action_layout import ActionLayout
from lingbot_va_core.executed_log import ExecutedFrame, ExecutedLog
from lingbot_va_core.motion import Timeline

DT = 20_000_000
T0 = 1_700_000_000_000_000_000
ROWS = 16
FRAME = ROWS * DT
JOINTS = ActionLayout.from_channels(np.array([14, 28]))


class Robot:
    """Sends what is due, and keeps the log."""

    def __init__(self) -> None:
        self.line = Timeline(JOINTS, DT, ROWS)
        self.log = ExecutedLog(self.line)
        self.frames: list[ExecutedFrame] = []
        self.sent = np.zeros(2)
        self.trace: list[tuple[int, int]] = []  # instants and motion times
        self.tick(0)

    def tick(self, elapsed: int = DT, speed: float = 1.0, limited: bool = False) -> None:
        self.line.advance((self.line.instant_ns or T0) + elapsed, speed)
        window = self.line.window(1)
        self.sent = self.sent if window is None else window.values[0]
        self.frames += self.log.add(self.sent, limited, window is not None and speed == 0)
        if self.line.resumed:
            self.trace.append(self.line.resumed)
        self.trace.append((self.line.reached_ns, self.line.motion_ns))
        self.trace.append((self.line.instant_ns, self.line.motion_ns))

    def splice(self, first: int, start: int, frames: int, chunk: int, dt: int = DT) -> None:
        """Add a chunk whose actions are their own numbers since latent frame 0, counted from 1."""
        rows = first * ROWS + 1.0 + np.arange(frames * ROWS)
        self.line.splice(first, start, dt, np.repeat(rows[:, None], 2, axis=1), chunk, sent=self.sent)


def test_at_full_speed_instants_are_those_of_the_chunk() -> None:
    robot = Robot()
    robot.sent = np.full(2, 16.0)
    start = T0 + 2 * DT + 7
    robot.splice(1, start, 2, 3)
    for _ in range(36):
        robot.tick()
    first, second = robot.frames
    assert (first.latent_index, second.latent_index) == (1, 2)
    assert (first.begin_ns, second.begin_ns) == (start, start + FRAME)
    assert first.video_stamps == tuple(start + (j + 1) * 4 * DT for j in range(4))
    assert (first.chunk, first.dt_ns, first.limited, first.held) == (3, DT, 0, 0)
    np.testing.assert_allclose(first.actions[:, 0], np.arange(17, 33), atol=1e-6)


def instant(trace: list[tuple[int, int]], motion_ns: int, side: str) -> float:
    """The first ('left') or last ('right') instant since T0 at which the motion was at `motion_ns` since T0."""
    instants, motion = (np.array(values) - T0 for values in zip(*trace, strict=True))
    after = min(np.searchsorted(motion, motion_ns, side), len(motion) - 1)
    return np.interp(motion_ns, motion[after - 1 : after + 1], instants[after - 1 : after + 1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([DT, 2 * DT, 3 * DT]))
def test_reports_are_exact_under_any_speed_and_any_rhythm(seed: int, dt: int) -> None:
    random = np.random.default_rng(seed)
    robot = Robot()
    robot.sent = np.full(2, 16.0)
    start = T0 + int(random.integers(0, 5 * DT))
    robot.splice(1, start, 3, 0, dt)
    end = start + 3 * ROWS * dt
    while not robot.line.holding or robot.line.motion_ns < end:
        speed = float(random.choice([0.0, 0.0, 0.3, 1.0, random.uniform()]))
        for _ in range(random.integers(1, 9)):
            robot.tick(int(random.integers(DT // 2, 3 * DT // 2)), speed)
    assert [frame.latent_index for frame in robot.frames] == [1, 2, 3]
    for i, frame in enumerate(robot.frames):
        np.testing.assert_allclose(frame.actions[:, 0], np.arange(16 * i + 17, 16 * i + 33), atol=1e-6)
        begin = start + i * ROWS * dt - T0
        assert frame.dt_ns == dt
        ends = begin + (np.arange(4) + 1) * 4 * dt
        expected = [instant(robot.trace, end, 'left') for end in ends]
        np.testing.assert_allclose(np.array(frame.video_stamps) - T0, expected, rtol=0, atol=2)
        np.testing.assert_allclose(frame.begin_ns - T0, instant(robot.trace, begin, 'right'), rtol=0, atol=2)


def test_a_pause_within_a_frame_is_between_its_video_stamps_and_counted_as_held() -> None:
    robot = Robot()
    robot.splice(1, T0, 1, 0)
    for k in range(26):
        robot.tick(speed=0.0 if 6 <= k < 16 else 1.0)
    (frame,) = robot.frames
    assert np.diff([frame.begin_ns, *frame.video_stamps]).tolist() == [4 * DT, 14 * DT, 4 * DT, 4 * DT]
    assert frame.held == 1


def test_a_pause_between_frames_is_in_neither() -> None:
    robot = Robot()
    robot.splice(1, T0, 2, 0)
    for k in range(42):
        robot.tick(speed=0.0 if 16 <= k < 26 else 1.0)
    first, second = robot.frames
    assert first.video_stamps[-1] == T0 + FRAME
    assert second.begin_ns == T0 + FRAME + 10 * DT
    assert second.video_stamps[-1] == second.begin_ns + FRAME


def test_a_wait_between_chunks_makes_no_frame() -> None:
    robot = Robot()
    robot.splice(1, T0, 1, 0)
    for _ in range(20):
        robot.tick(limited=len(robot.frames) > 0)  # what is limited while nothing moves belongs to no frame
    robot.splice(2, T0 + FRAME, 1, 1)
    for _ in range(17):
        robot.tick()
    assert [(f.latent_index, f.chunk, f.limited, f.held) for f in robot.frames] == [(1, 0, 0, 0), (2, 1, 0, 0)]
    assert robot.frames[1].begin_ns == T0 + 20 * DT


def test_a_frame_that_two_chunks_share_is_reported_once() -> None:
    robot = Robot()
    robot.sent = np.full(2, 16.0)
    robot.splice(1, T0, 2, 0)
    for _ in range(5):
        robot.tick()
    robot.tick(DT // 3)
    robot.splice(1, T0, 3, 1, 2 * DT)
    for _ in range(100):
        robot.tick()
    assert [(f.latent_index, f.chunk) for f in robot.frames] == [(1, 1), (2, 1), (3, 1)]
    assert robot.frames[0].begin_ns == T0
    for i, frame in enumerate(robot.frames):
        np.testing.assert_allclose(frame.actions[:, 0], np.arange(16 * i + 17, 16 * i + 33), atol=1e-6)
        assert frame.dt_ns == 2 * DT


def test_the_last_instant_of_a_motion_is_its_end_and_not_the_control_period_after_it() -> None:
    robot = Robot()
    robot.sent = np.full(2, 16.0)
    start = T0 + 2 * DT + 7_000_000
    robot.splice(1, start, 1, 0)
    for _ in range(20):
        robot.tick()
    assert robot.frames[0].video_stamps[-1] == pytest.approx(start + FRAME, abs=2)
    robot.splice(2, start + 2 * FRAME, 1, 1)
    for _ in range(50):
        robot.tick(speed=0.5)
    assert robot.frames[1].video_stamps[-1] == pytest.approx(start + 4 * FRAME, abs=4)


def test_limited_actions_are_counted() -> None:
    robot = Robot()
    robot.splice(1, T0, 1, 0)
    for k in range(16):
        robot.tick(limited=k in (3, 4))
    assert robot.frames[0].limited == 2


def test_a_frame_of_which_only_a_part_was_executed_is_not_reported() -> None:
    robot = Robot()
    robot.splice(1, T0, 1, 0)
    for _ in range(8):
        robot.tick()
    robot.line.clear()
    robot.log.clear()
    robot.splice(4, robot.line.instant_ns, 1, 0)
    for _ in range(18):
        robot.tick()
    assert [frame.latent_index for frame in robot.frames] == [4]


def test_reports_keep_their_values() -> None:
    robot = Robot()
    robot.splice(1, T0, 2, 0)
    for _ in range(16):
        robot.tick()
    before = robot.frames[0].actions.copy()
    for _ in range(16):
        robot.tick()
    assert len(robot.frames) == 2
    np.testing.assert_array_equal(robot.frames[0].actions, before)


@pytest.mark.parametrize('speed', [0.01, 0.0])
def test_slowness_costs_no_memory(speed: float) -> None:
    robot = Robot()
    robot.splice(1, T0, 1, 0)
    robot.tick()
    size = {name: np.size(value) for name, value in vars(robot.log).items()}
    for _ in range(500):
        robot.tick(speed=speed)
    assert {name: np.size(value) for name, value in vars(robot.log).items()} == size
