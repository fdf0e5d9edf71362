"""Stops stay until somebody clears them; everything else comes and goes with its cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_msgs.msg import ActionState
from lingbot_va_ros.arming import Arming

MS = 1_000_000


def test_an_emergency_stop_outlasts_its_release_and_is_cleared_only_after_it() -> None:
    arming = Arming()
    arming.on_e_stop(True)
    assert arming.speed(0) == 0
    assert arming.clear() == 'e_stop is still true; release it first'
    arming.on_e_stop(False)
    assert arming.state(0, moving=True)[0] == ActionState.E_STOPPED
    assert arming.clear() == ''
    assert arming.state(0, moving=False) == (ActionState.HOLDING, '')
    assert arming.speed(0) == 1


def test_false_on_e_stop_does_nothing() -> None:
    arming = Arming()
    arming.on_e_stop(False)
    assert not arming.latched
    assert arming.state(0, moving=True)[0] == ActionState.MOVING


def test_the_first_fault_stays_until_it_is_cleared() -> None:
    arming = Arming()
    assert arming.fault('first')
    assert not arming.fault('second')
    state, reason = arming.state(0, moving=True)
    assert state == ActionState.FAULT
    assert reason.startswith('first;')
    assert len(reason) < 256
    assert arming.clear() == ''
    assert not arming.latched


def test_motion_needs_an_enable_that_is_renewed() -> None:
    arming = Arming(require_enable=True, enable_timeout_ns=100 * MS)
    assert arming.state(0, moving=True) == (ActionState.PAUSED, 'not enabled')
    arming.on_enable(True, 0)
    assert arming.speed(100 * MS) == 1
    assert arming.speed(101 * MS) == 0
    assert arming.state(101 * MS, moving=True) == (ActionState.PAUSED, 'enable has not been renewed in time')
    arming.on_enable(True, 200 * MS)
    assert arming.speed(201 * MS) == 1
    arming.on_enable(False, 202 * MS)
    assert arming.state(203 * MS, moving=True) == (ActionState.PAUSED, 'not enabled')


def test_enable_is_not_needed_unless_it_is_asked_for() -> None:
    arming = Arming()
    arming.on_enable(False, 0)
    assert arming.speed(1) == 1


def test_the_speed_scale_is_a_share_and_zero_pauses() -> None:
    arming = Arming()
    assert arming.on_speed_scale(0.25) == ''
    assert arming.speed(0) == 0.25
    assert arming.on_speed_scale(0.0) == ''
    assert arming.state(0, moving=True) == (ActionState.PAUSED, 'speed_scale is 0')


@pytest.mark.parametrize('scale', [-0.01, 1.01, float('nan'), float('inf'), -float('inf')])
def test_a_speed_scale_that_is_no_share_changes_nothing(scale: float) -> None:
    arming = Arming()
    arming.on_speed_scale(0.5)
    assert arming.on_speed_scale(scale) == f'speed_scale is {scale:g}; it must be from 0 to 1'
    assert arming.speed(0) == 0.5


def test_a_pause_ends_with_its_cause() -> None:
    arming = Arming()
    arming.pause('a', 'a is lost')
    arming.pause('b', 'b is lost')
    arming.pause('a', '')
    assert arming.state(0, moving=True) == (ActionState.PAUSED, 'b is lost')
    arming.pause('b', '')
    assert arming.state(0, moving=True)[0] == ActionState.MOVING


EVENTS = st.one_of(
    st.tuples(st.just('e_stop'), st.booleans()),
    st.tuples(st.just('enable'), st.booleans()),
    st.tuples(st.just('speed_scale'), st.floats(allow_nan=True)),
    st.tuples(st.just('fault'), st.just('broken')),
    st.tuples(st.just('pause'), st.sampled_from(['', 'lost'])),
    st.tuples(st.just('clear'), st.none()),
    st.tuples(st.just('wait'), st.integers(0, 300 * MS)),
)


@given(st.booleans(), st.lists(EVENTS, max_size=40))
def test_in_no_order_of_events_does_a_latched_stop_end_by_itself(require_enable: bool, events: list) -> None:
    arming, now, latched = Arming(require_enable, 100 * MS), 0, False
    for kind, value in events:
        if kind == 'e_stop':
            arming.on_e_stop(value)
            latched |= value
        elif kind == 'enable':
            arming.on_enable(value, now)
        elif kind == 'speed_scale':
            arming.on_speed_scale(value)
        elif kind == 'fault':
            arming.fault(value)
            latched = True
        elif kind == 'pause':
            arming.pause('test', value)
        elif kind == 'wait':
            now += value
        elif arming.clear() == '':
            latched = False
        assert arming.latched == latched
        assert 0 <= arming.speed(now) <= 1
        if latched:
            assert arming.speed(now) == 0
            assert arming.state(now, moving=True)[0] in (ActionState.FAULT, ActionState.E_STOPPED)
