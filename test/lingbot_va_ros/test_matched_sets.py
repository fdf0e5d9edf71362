"""Images that message_filters has matched are sampled in whole sets."""

import importlib.util

import pytest
from sensor_msgs.msg import Image

from lingbot_va_core.sampling import FrameSampler
from lingbot_va_ros.conversions import to_time
from lingbot_va_ros.matched_sets import MatchedSets

MS = 1_000_000
T0 = 1_700_000_000_000_000_000
INSTALLED = importlib.util.find_spec('message_filters') is not None
needed = pytest.mark.skipif(not INSTALLED, reason='the ROS package message_filters is not installed here')


def send(sets: MatchedSets, camera: int, ms: int) -> Image:
    message = Image()
    message.header.stamp = to_time(T0 + ms * MS)
    sets.push(camera, T0 + ms * MS, message)
    return message


@pytest.mark.skipif(INSTALLED, reason='message_filters is installed here')
def test_without_the_package_the_remedy_is_named() -> None:
    with pytest.raises(ValueError, match=r'not installed here; install the ROS package .*, or set synchronizer'):
        MatchedSets(2, 0.04, lambda *_: None)


@needed
def test_the_sampler_takes_whole_sets_and_no_image_alone() -> None:
    sampler = FrameSampler(2, 80 * MS, max_held=2)
    sets = MatchedSets(2, 0.04, sampler.push)
    first, near = send(sets, 0, 0), send(sets, 1, 30)
    send(sets, 0, 80)  # without a partner
    last, later = send(sets, 0, 160), send(sets, 1, 170)
    sampler.ask([T0, T0 + 100 * MS])
    taken = sampler.take(T0 + 200 * MS)
    assert [each.frames for each in taken] == [(first, near), (last, later)]
    assert [each.stamp_ns for each in taken] == [T0, T0 + 160 * MS]


@needed
def test_sets_go_on_after_the_clock_was_set_back() -> None:
    passed: list[tuple[int, int]] = []
    sets = MatchedSets(2, 0.04, lambda camera, stamp_ns, _: passed.append((camera, stamp_ns)))
    for ms in (*range(100_000, 104_000, 80), 0, 80):
        for camera in (0, 1):
            send(sets, camera, ms)
    assert passed[-4:] == [(0, T0), (1, T0), (0, T0 + 80 * MS), (1, T0 + 80 * MS)]
