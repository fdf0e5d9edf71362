"""Whatever chunks come, the commands stay within the limits, and every chunk is accounted for."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.command_planner import CommandPlanner
from lingbot_va_core.limits import JointLimits
from lingbot_va_core.motion import MAX_PLANNED, ChunkError
from lingbot_va_core.robot import load_profile

PROFILE = load_profile('aloha')
LIMITS = JointLimits(*(PROFILE.limits(field) for field in ('lower', 'upper', 'velocity', 'acceleration')))
HOME = PROFILE.limits('home')
DT = PROFILE.clock.action_ns
SECONDS = DT / NANOSECONDS
ROWS = PROFILE.clock.actions_per_latent
T0 = 1_700_000_000_000_000_000


class Loop:
    """What an action node does in a control period; each command is checked."""

    def __init__(self) -> None:
        self.planner = CommandPlanner(PROFILE)
        self.planner.arm(HOME)
        self._now, self._before, self._velocity = T0, HOME, np.zeros(len(HOME))
        self.counts: Counter[str] = Counter()
        self.frames: list[int] = []
        self.tick()

    @property
    def ending(self) -> int:
        """When all that is planned will be over, at full speed."""
        line = self.planner.timeline
        return line.instant_ns + (max(int(line.plan.due[-1]) - line.motion_ns, 0) if len(line.plan.due) else 0)

    def tick(self, elapsed: int = DT, speed: float = 1.0) -> None:
        self._now += elapsed
        start = self._arm_after(elapsed)
        command = self.planner.step(self._now, speed)
        if command.gross:
            self.counts['gross'] += 1  # a node latches a fault here
            self.planner.drop()
        rows = self.planner.window.positions
        assert np.all((rows >= LIMITS.lower - 1e-9) & (rows <= LIMITS.upper + 1e-9))
        assert possible(rows, *start) or possible(rows, self._before, self._velocity)
        self._before, self._velocity = rows[0], self.planner._filter.velocity
        for frame in command.frames:
            assert np.isfinite(frame.actions).all()
            assert sorted([frame.begin_ns, *frame.video_stamps]) == [frame.begin_ns, *frame.video_stamps]
            self.frames.append(frame.latent_index)

    def _arm_after(self, elapsed: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the last window has brought an arm that follows it, and how fast it is."""
        rows, row = self.planner.window.positions, elapsed / DT - 1
        if row < 0.5 or row >= len(rows) - 1:
            return (self._before, self._velocity) if row < 0.5 else (rows[-1], 0 * rows[-1])
        step = rows[int(row) + 1] - rows[int(row)]
        return rows[int(row)] + step * (row % 1), step / SECONDS

    def splice(self, *chunk: object) -> None:
        try:
            splice = self.planner.splice(*chunk)
        except ChunkError as error:
            assert len(str(error)) > 10
            self.counts['refused'] += 1
        else:
            self.counts['duplicate' if splice.duplicate else 'taken'] += 1
            if not splice.duplicate:
                assert splice.late + splice.faded + splice.appended == len(chunk[3])
        assert len(self.planner.timeline.plan.due) <= MAX_PLANNED + ROWS


def possible(rows: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> bool:
    """Whether positions, one per control period, keep to the limits of speed and acceleration from this state on."""
    speeds = np.diff(np.vstack([position, rows]), axis=0) / SECONDS
    change = np.abs(np.diff(np.vstack([velocity, speeds]), axis=0))
    return bool(
        np.all(np.abs(speeds) <= LIMITS.velocity + 1e-9) and np.all(change <= LIMITS.acceleration * SECONDS + 1e-7)
    )


def hostile(random: np.random.Generator, loop: Loop, number: int) -> tuple:
    """A chunk, mostly bad in one way or another."""
    frames = int(random.integers(1, 5))
    actions = HOME + np.cumsum(random.normal(0, random.choice([0.001, 0.02, 0.5]), (frames * ROWS, len(HOME))), axis=0)
    offsets = [0, -1, 1, -DT, 5 * DT, -40 * DT, 10**9, -(10**10), 10**12, -loop.ending, 2**61]
    start = loop.ending + int(random.choice(offsets))
    first = number + int(random.choice([0, 0, 0, 1, -1, -5, 100, -(2**31), 2**32]))
    dt = int(random.choice([DT, DT, DT, 2 * DT, 10**9, 0, -DT, 1, 2**62]))
    chunk = number + int(random.choice([0, 0, 0, -1, -10, 3]))
    match random.integers(0, 10):
        case 0:
            actions[random.integers(len(actions)), random.integers(14)] = random.choice([np.nan, np.inf, -np.inf])
        case 1:
            actions = actions[: random.integers(0, len(actions))]
        case 2:
            actions = actions[:, : random.integers(0, len(HOME))]
        case 3:
            actions = actions * 10.0 ** random.integers(0, 300)
        case 4:
            actions = np.zeros((int(random.choice([0, 3, 2000])), len(HOME)))
        case 5:
            actions = actions.ravel()
        case 6:
            actions = np.float32(actions)
    return first, start, dt, actions, chunk


@pytest.mark.parametrize('seed', range(4))
def test_no_chunk_breaks_a_limit_or_anything_else(seed: int) -> None:
    random, loop, sent = np.random.default_rng(seed), Loop(), 0
    for _ in range(250):
        for _ in range(int(random.integers(0, 21))):
            loop.splice(*hostile(random, loop, sent))
            sent += 1
        loop.tick(int(random.choice([DT, DT, DT // 3, 2 * DT, 0, 50 * DT])), float(random.choice([1, 1, 0.3, 0])))
        if random.random() < 0.02:
            loop.planner.drop()
    assert sent > 2000
    assert loop.counts['taken'] + loop.counts['refused'] + loop.counts['duplicate'] == sent
    assert min(loop.counts[name] for name in ('taken', 'refused', 'duplicate', 'gross')) > 0
    loop.tick()
    loop.planner.drop()
    for _ in range(12):
        loop.tick()
    assert loop.planner.at_rest


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_seams_stay_within_the_limits(seed: int) -> None:
    """Chunks of motions that a robot could do, put together at random: overlaps, speeds, lags, stretched actions."""
    random, loop = np.random.default_rng(seed), Loop()
    first = 1
    for number in range(4):
        frames = int(random.integers(1, 4))
        phase = random.uniform(0, 2 * np.pi, len(HOME))
        wave = np.sin(phase + random.uniform(0.02, 0.1) * np.arange(frames * ROWS)[:, None])
        reach = 0.25 * np.minimum(LIMITS.upper - HOME, HOME - LIMITS.lower)
        start = loop.ending + int(random.integers(-10, 10)) * DT
        overlap = int(random.integers(0, 2)) if number else 0
        dt = int(random.choice([DT, DT, 1.5 * DT]))
        loop.splice(first - overlap, start, dt, HOME + reach * wave, number)
        first += frames - overlap
        for _ in range(int(random.integers(1, 30))):
            loop.tick(int(random.integers(DT - 10**6, DT + 10**6)), float(random.choice([1, 1, 0.4, 0])))
    assert loop.counts['taken'] == 4
    assert not loop.counts['gross']
    while not loop.planner.timeline.holding or loop.ending > loop.planner.timeline.instant_ns:
        loop.tick()
    assert loop.frames == list(range(1, first))
