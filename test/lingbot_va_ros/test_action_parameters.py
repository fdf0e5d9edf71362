"""What can be changed while the action node runs, what cannot, and profiles that contradict the robot."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from action_bench import ActionBench, action_bench, configured
from action_stage import CLOCK, HOME, chunk_of, ramp
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_msgs.msg import ActionState
from lingbot_va_ros.conversions import to_time


@pytest.fixture
def bench() -> Iterator[ActionBench]:
    with action_bench() as bench:
        yield bench


def change(bench: ActionBench, **values: float | bool) -> tuple[bool, str]:
    result = bench.node.set_parameters_atomically([Parameter(name, value=value) for name, value in values.items()])
    return result.successful, result.reason


def move(bench: ActionBench, ticks: int) -> None:
    chunk = chunk_of(ramp(0.5, 3))
    chunk.episode = bench.begin()
    chunk.observation_stamps = [to_time(bench.now_ns)]
    bench.send(chunk, bench.now_ns + CLOCK.action_ns)
    for _ in range(ticks):
        bench.tick()


def test_thresholds_take_effect_at_once(bench: ActionBench) -> None:
    move(bench, 10)
    assert bench.node._state[0] == ActionState.MOVING
    assert change(bench, max_observation_age_s=0.1) == (True, '')
    bench.tick()
    bench.tick()
    assert bench.node._watchdogs.trips['observation_age'] == 1
    assert bench.node._planner.timeline.holding


def test_values_that_contradict_each_other_are_refused_together(bench: ActionBench) -> None:
    successful, reason = change(bench, max_arm_skew_s=0.5, tracking_error_slow=0.7)
    assert not successful
    assert reason == 'tracking_error_slow is 0.7 and tracking_error_fault is 0.6; the first must be below the second'
    assert bench.node._watchdogs.thresholds['max_arm_skew_s'] == 0.2
    assert change(bench, tracking_error_slow=0.7, tracking_error_fault=0.9)[0]
    assert bench.node._watchdogs.thresholds['tracking_error_fault'] == 0.9


def test_values_out_of_range_and_what_is_fixed_at_the_start_are_refused(bench: ActionBench) -> None:
    assert not change(bench, max_observation_age_s=1000.0)[0]
    assert bench.node._watchdogs.thresholds['max_observation_age_s'] == 3.0
    for name, value in (('window_points', 20), ('relative_poses', True), ('require_enable', True)):
        successful, reason = change(bench, **{name: value})
        assert (successful, 'read-only' in reason) == (False, True), reason
    assert change(bench, enable_timeout_s=1.0)[0]
    assert bench.node._arming.enable_timeout_ns == 1_000_000_000


def test_arms_that_somebody_moves_while_nothing_runs_are_not_pulled_back(bench: ActionBench) -> None:
    for _ in range(5):
        bench.tick()
    elsewhere = HOME.copy()
    elsewhere[0] += 1.0  # far above tracking_error_fault
    bench._measured = elsewhere
    bench.tick()
    bench._measured = elsewhere
    np.testing.assert_array_equal(bench.node._planner.window.positions[0], HOME)  # one measurement may be wrong
    bench.tick()
    np.testing.assert_allclose(bench.node._planner.window.positions[0], elsewhere, atol=1e-9)
    assert bench.counts['gave_way'] == 1
    assert not bench.node._arming.latched


def test_arms_that_somebody_moves_after_motion_began_latch_a_fault(bench: ActionBench) -> None:
    move(bench, 10)
    bench._measured = HOME + 0.7
    bench.tick()
    assert bench.node._arming.latched
    assert bench.counts['gave_way'] == 0


def test_a_profile_that_is_looser_than_the_robot_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load(profile_path('aloha').read_text())
    document['arms']['left']['joints']['left_elbow']['upper'] = 1.7
    path = tmp_path / 'loose.yaml'
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    load_profile(str(path))  # sound in itself
    assert configured(f'robot:={path}') == TransitionCallbackReturn.FAILURE
    message = 'left_elbow.upper is 1.7, but bimanual_viperx_transfer_cube.xml allows 1.6057; a profile can only tighten'
    assert message in capfd.readouterr().err
