"""Robot profiles: the way to the universal action and back."""

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lingbot_va_core.robot import CHANNELS, POSE_CHANNELS, ProfileError, RobotProfile, parse_profile, profile_path

ALOHA = yaml.safe_load(profile_path('aloha').read_text())
LIMITS = {'lower': -3.0, 'upper': 3.0, 'velocity': 3.0, 'acceleration': 20.0, 'home': 0.5}


def arm(side: str, joints: int, gripper: bool, pose: bool) -> dict:
    """One arm as a profile has it."""
    channels = [*CHANNELS[side][:joints], *CHANNELS[side][-1:] * gripper]
    document: dict = {}
    if channels:
        document['output'] = {'type': 'joint_trajectory', 'topic': f'{side}/joint_trajectory'}
        document['joints'] = {f'{side}_{channel}': {'channel': channel, **LIMITS} for channel in channels}
    if pose:
        document['end_effector'] = {
            'tool_frame': f'{side}_tool', 'base_frame': 'base_link', 'in_action': True,
            'outputs': {'pose': f'{side}/target_pose'},
        }  # fmt: skip
    return document


def robot(arms: dict[str, dict]) -> RobotProfile:
    document = {**ALOHA, 'name': 'test', 'arms': arms, 'kinematics': {'urdf': '/robot.urdf'}}
    return parse_profile(yaml.safe_dump(document, sort_keys=False), 'test.yaml')


@st.composite
def robots(draw: st.DrawFn) -> RobotProfile:
    """One or two arms in either order: 6 or 7 joints or none, with and without gripper and end effector."""
    sides = draw(st.permutations(['left', 'right']))[: draw(st.integers(1, 2))]
    kinds = st.tuples(st.sampled_from([0, 6, 7]), st.booleans(), st.booleans()).filter(any)
    return robot({side: arm(side, *draw(kinds)) for side in sides})


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # YAML takes its time on a busy machine
@given(robots(), st.integers(0, 2**32 - 1))
def test_actions_of_every_kind_of_robot_survive_the_universal_form(profile: RobotProfile, seed: int) -> None:
    actions = np.random.default_rng(seed).normal(size=(2, 5, len(profile.channels))).astype(np.float32)
    universal = profile.to_universal(actions)
    np.testing.assert_array_equal(profile.from_universal(universal), actions)
    assert universal.shape == (2, 5, 30)
    assert not universal[..., ~profile.mask].any()


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # YAML takes its time on a busy machine
@given(robots(), st.integers(0, 2**32 - 1))
def test_channels_outside_of_the_mask_reach_no_robot(profile: RobotProfile, seed: int) -> None:
    universal = np.random.default_rng(seed).normal(size=(5, 30)).astype(np.float32)
    spoilt = np.where(profile.mask, universal, np.nan)
    np.testing.assert_array_equal(profile.from_universal(spoilt), profile.from_universal(universal))
    assert len(profile.channels) == profile.mask.sum()


@pytest.mark.parametrize(
    ('kind', 'channels'),
    [
        ((0, True, True), [*range(7), 28, *range(7, 14), 29]),  # robotwin, franka
        ((6, True, False), [*range(14, 20), 28, *range(21, 27), 29]),  # piper
        ((7, True, False), [*range(14, 21), 28, *range(21, 28), 29]),
        ((0, False, True), [*range(14)]),
        ((7, True, True), [*range(7), *range(14, 21), 28, *range(7, 14), *range(21, 28), 29]),
    ],
)
def test_the_order_is_that_of_released_subsets(kind: tuple[int, bool, bool], channels: list[int]) -> None:
    profile = robot({side: arm(side, *kind) for side in ('left', 'right')})
    assert profile.channels.tolist() == channels
    np.testing.assert_array_equal(np.flatnonzero(profile.mask), sorted(channels))
    np.testing.assert_array_equal(profile.to_universal(np.arange(len(channels)))[channels], np.arange(len(channels)))


def test_the_order_of_arms_is_that_of_the_profile() -> None:
    profile = robot({side: arm(side, 6, True, False) for side in ('right', 'left')})
    assert profile.channels.tolist() == [*range(21, 27), 29, *range(14, 20), 28]


def test_joints_may_follow_from_the_pose_instead_of_the_action() -> None:
    document = arm('left', 7, True, True)
    for joint in list(document['joints'].values())[:7]:
        del joint['channel']
    profile = robot({'left': document, 'right': arm('right', 6, True, True)})
    left, right = profile.arms
    assert (left.needs_ik, right.needs_ik) == (True, False)
    assert left.channels == (*range(7), 28)
    assert [joint.name for joint in left.arm_joints] == [f'left_{channel}' for channel in range(14, 21)]
    assert left.gripper_joint.name == 'left_28' and left.output_joints == left.joints
    assert profile.acting_joints.tolist() == [7, *range(8, 15)]
    assert profile.joint_channels.tolist() == [28, *range(21, 27), 29]
    assert profile.limits('home').shape == (15,)
    assert profile.value_names[5:10] == ('left pose qz', 'left pose qw', 'left_28', 'right pose x', 'right pose y')
    assert len(profile.value_names) == len(profile.channels)


def test_a_pose_that_is_only_published_is_no_part_of_the_action() -> None:
    document = arm('left', 6, True, True)
    document['end_effector']['in_action'] = False
    profile = robot({'left': document})
    assert profile.channels.tolist() == [*range(14, 20), 28]
    assert not profile.arms[0].pose_in_action and profile.arms[0].end_effector.pose_topic == 'left/target_pose'


def test_a_robot_without_end_effectors_acts_with_its_joints(profile: RobotProfile) -> None:
    assert profile.channels.tolist() == [joint.channel for joint in profile.joints]
    assert profile.joint_channels.tolist() == profile.channels.tolist()
    assert profile.acting_joints.tolist() == list(range(len(profile.joints)))
    assert not profile.mask[: POSE_CHANNELS['right'][-1] + 1].any()


@pytest.mark.parametrize('width', [1, 13, 30])
def test_a_vector_of_another_size_is_refused(profile: RobotProfile, width: int) -> None:
    with pytest.raises(ProfileError, match=rf'shape \(2, {width}\) does not end in 14, the size of an action vector'):
        profile.to_universal(np.zeros((2, width)))


def test_a_universal_action_of_another_size_is_refused(profile: RobotProfile) -> None:
    with pytest.raises(ProfileError, match=r'shape \(14,\) does not end in 30, the size of a universal action'):
        profile.from_universal(np.zeros(14))
