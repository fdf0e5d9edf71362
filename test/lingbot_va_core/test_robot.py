"""Robot profiles: the way to the universal action and back, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.robot import (
    CHANNELS,
    POSE_CHANNELS,
    ProfileError,
    RobotProfile,
    load_profile,
    parse_profile,
    profile_path,
)

ALOHA = profile_path('aloha').read_text()
LIMITS = {'lower': -3.0, 'upper': 3.0, 'velocity': 3.0, 'acceleration': 20.0, 'home': 0.5}


def arm(side: str, joints: int, gripper: bool, pose: bool) -> dict:
    """One arm as a profile has it."""
    channels = [*CHANNELS[side][:joints], *CHANNELS[side][-1:] * gripper]
    document: dict = {'trajectory': f'{side}/joint_trajectory'}
    if channels:
        document['joints'] = {f'{side}_{channel}': {'channel': channel, **LIMITS} for channel in channels}
    if pose:
        document['end_effector'] = {'tool_frame': f'{side}_tool', 'base_frame': 'base_link'}
    return document


def robot(arms: dict[str, dict]) -> RobotProfile:
    document = {**yaml.safe_load(ALOHA), 'name': 'test', 'arms': arms}
    return parse_profile(yaml.safe_dump(document, sort_keys=False), 'test.yaml')


@st.composite
def robots(draw: st.DrawFn) -> RobotProfile:
    """One or two arms in either order: 6 or 7 joints or none, with and without gripper and end effector."""
    sides = draw(st.permutations(['left', 'right']))[: draw(st.integers(1, 2))]
    kinds = st.tuples(st.sampled_from([0, 6, 7]), st.booleans(), st.booleans()).filter(any)
    return robot({side: arm(side, *draw(kinds)) for side in sides})


@given(robots(), st.integers(0, 2**32 - 1))
def test_actions_of_every_kind_of_robot_survive_the_universal_form(profile: RobotProfile, seed: int) -> None:
    actions = np.random.default_rng(seed).normal(size=(2, 5, len(profile.channels))).astype(np.float32)
    universal = profile.to_universal(actions)
    np.testing.assert_array_equal(profile.from_universal(universal), actions)
    assert universal.shape == (2, 5, 30)
    assert not universal[..., ~profile.mask].any()


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


def test_a_robot_without_end_effectors_acts_with_its_joints(profile: RobotProfile) -> None:
    assert profile.channels.tolist() == [joint.channel for joint in profile.joints]
    assert not profile.mask[: POSE_CHANNELS['right'][-1] + 1].any()


@pytest.mark.parametrize('width', [1, 13, 30])
def test_a_vector_of_another_size_is_refused(profile: RobotProfile, width: int) -> None:
    with pytest.raises(ProfileError, match=rf'shape \(2, {width}\) does not end in 14, the size of an action vector'):
        profile.to_universal(np.zeros((2, width)))


def test_a_universal_action_of_another_size_is_refused(profile: RobotProfile) -> None:
    with pytest.raises(ProfileError, match=r'shape \(14,\) does not end in 30, the size of a universal action'):
        profile.from_universal(np.zeros(14))


def left(change: dict, joints: int = 6, pose: bool = True) -> dict:
    return {'left': arm('left', joints, True, pose) | change}


JOINT = {'channel': 14, **LIMITS}
TOOL = {'tool_frame': 'tool', 'base_frame': 'base'}


@pytest.mark.parametrize(
    ('arms', 'message'),
    [
        ({}, 'arms is empty'),
        ({'middle': arm('left', 6, True, False)}, "arm 'middle' is unknown; name arms left and right"),
        ({'left': {'trajectory': 'a'}}, 'arms.left has no channel of the action; give it joints, an end_effector, or'),
        (left({'joints': {}}), 'arms.left.joints is empty'),
        (left({'end_effector': 'tool'}), "arms.left.end_effector is 'tool'; it must be a dict"),
        (left({'end_effector': {'tool_frame': 'tool'}}), 'end_effector: missing base_frame; the fields are tool_fr'),
        (left({'end_effector': TOOL | {'base_frame': 'tool'}}), 'tool_frame and base_frame are both tool'),
        (left({'end_effector': TOOL | {'tool_frame': ''}}), 'end_effector.tool_frame is empty'),
        (left({'trajectory': ''}), 'arms.left.trajectory is empty'),
        (left({'joints': {'a': JOINT | {'channel': 3}}}), r'a.channel is 3; joints of the left arm .* 20\), .* has 28'),
        (left({'joints': {'a': JOINT | {'channel': 21}}}), 'a.channel is 21; joints of the left arm'),
        (left({'joints': {'a': JOINT | {'channel': 29}}}), 'a.channel is 29; joints of the left arm'),
        (left({'joints': {'a': JOINT, 'b': JOINT}}), 'channel 14 is used more than once'),
        (left({'joints': {'a': JOINT | {'home': 4.0}}}), r'a.home is 4.0, outside \[-3.0, 3.0\]'),
        (left({'gripper': {}}), 'unknown gripper; the fields are trajectory, joints, end_effector'),
        (
            {side: arm(side, 0, True, False) | {'end_effector': TOOL} for side in ('left', 'right')},
            'tool frame tool is used more than once',
        ),
    ],
)
def test_contradictions_are_refused(arms: dict, message: str) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        robot(arms)
    assert str(caught.value).startswith('test.yaml: ')
    assert '\n' not in str(caught.value)


def test_a_joint_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'twice.yaml'
    path.write_text(ALOHA.replace('left_shoulder:', 'left_waist:'))
    with pytest.raises(ProfileError, match='the name left_waist is used more than once'):
        load_profile(str(path))
