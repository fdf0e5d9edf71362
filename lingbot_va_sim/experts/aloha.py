"""The arms of ALOHA as the experts move them."""

import numpy as np

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.aloha import START_ARM_POSE
from lingbot_va_sim.experts.motion import ArmMotion, Pace, ToolPose
from lingbot_va_sim.kinematics import ArmKinematics
from lingbot_va_sim.simulation import Simulation

ARM_JOINTS = tuple(name for name in START_ARM_POSE if name != 'gripper')
FORWARD = {'left': 0.0, 'right': np.pi}  # yaw of a tool in the start pose
OPEN, CLOSED = 0.057, 0.021  # m of one finger; the limits of the drive. The fingers touch each other at 0.0224


def aloha_arms(simulation: Simulation, start: np.ndarray, pace: Pace) -> dict[str, ArmMotion]:
    """Return both arms at the joint targets `start` [joints of the profile]."""
    profile, model = simulation.profile, simulation.robot.model
    limits = {field: profile.limits(field) for field in ('velocity', 'acceleration')}
    index = {joint.name: i for i, joint in enumerate(profile.joints)}
    tools = {arm.side: arm.end_effector for arm in load_profile('aloha').arms}  # whatever tools another profile has
    arms = {}
    for side, forward in FORWARD.items():
        own = [index[f'{side}_{name}'] for name in (*ARM_JOINTS, 'gripper')]
        joints = [f'vx300s_{side}/{name}' for name in ARM_JOINTS]
        arms[side] = ArmMotion(
            ArmKinematics(model, joints, tools[side].tool_frame, tools[side].offset[:3]),
            start[own],
            limits['velocity'][own],
            limits['acceleration'][own],
            _seeds(model.body(f'vx300s_{side}').pos[:2].copy(), forward),
            simulation.profile.clock.action_ns / 1e9,
            pace,
        )
    return arms


def facing(simulation: Simulation, side: str, position: np.ndarray) -> float:
    """Return the yaw with which a tool at `position` lies in the vertical plane of its arm: no wrist joint turns."""
    base = simulation.robot.model.body(f'vx300s_{side}').pos
    return float(np.arctan2(position[1] - base[1], position[0] - base[0]))


def _seeds(base: np.ndarray, forward: float) -> object:
    """Return the function from a pose to the joints from which it is sought."""

    def seed(pose: ToolPose) -> np.ndarray:
        joints = np.array([START_ARM_POSE[name] for name in ARM_JOINTS])
        azimuth = np.arctan2(pose.position[1] - base[1], pose.position[0] - base[0])
        joints[0] = (azimuth - forward + np.pi) % (2 * np.pi) - np.pi
        joints[-1] = pose.roll
        return joints

    return seed
