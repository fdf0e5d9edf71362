"""Ages of what motion was predicted from, which do not count the time in which the arms were paused or slowed down."""

import numpy as np
import pytest

from lingbot_va_core.command_planner import HOLD, Command
from lingbot_va_ros.conversions import MessageError
from lingbot_va_ros.motion_provenance import MotionProvenance

DT = 20_000_000
MS = 1_000_000
LIMIT_S = 3.0


def command(chunk: int = 0, speed: float = 1.0) -> Command:
    nothing = np.zeros(1)
    paused = speed == 0
    return Command(nothing, chunk, HOLD if paused else 0, 0, nothing, speed, paused, '', [])


class Drive:
    """Control periods from 0 on; the chunk 0 was predicted from an image of that time."""

    def __init__(self) -> None:
        self.now = 0
        self.provenance = MotionProvenance(0)
        self.provenance.add(0, 0, 0)

    def go(self, periods: int, chunk: int = 0, speed: float = 1.0) -> None:
        for _ in range(periods):
            self.now += DT
            self.provenance.note(command(chunk, speed), self.now, DT)


def test_what_was_seen_before_a_pause_is_as_old_after_it() -> None:
    drive = Drive()
    drive.go(50)
    drive.go(500, speed=0.0)
    drive.go(1)
    assert drive.provenance.age_ns(drive.now) == pytest.approx(51 * DT, abs=DT)


def test_a_chunk_predicted_from_what_was_seen_before_a_pause_is_not_too_old_after_it() -> None:
    drive = Drive()
    drive.go(50)
    seen = drive.now
    drive.go(10)
    drive.go(500, speed=0.0)
    drive.go(5)
    drive.provenance.check(1, seen, drive.now, LIMIT_S)
    drive.provenance.add(1, seen, drive.now)
    drive.go(1, chunk=1)
    assert drive.provenance.first_latency_ns == pytest.approx(16 * DT, abs=DT)


def test_one_from_the_midst_of_a_pause_loses_the_part_after_it() -> None:
    drive = Drive()
    drive.go(10)
    drive.go(300, speed=0.5)
    seen = 10 * DT + 200 * DT
    drive.provenance.check(1, seen, drive.now, 50.5 * DT / 1e9)
    with pytest.raises(MessageError, match=r'images that are 1\.00 s old; max_observation_age_s is 0\.98'):
        drive.provenance.check(1, seen, drive.now, 0.98)


def test_without_a_pause_all_time_counts() -> None:
    drive = Drive()
    drive.go(200)
    with pytest.raises(MessageError, match=r'4\.00 s old'):
        drive.provenance.check(1, 0, drive.now, LIMIT_S)
