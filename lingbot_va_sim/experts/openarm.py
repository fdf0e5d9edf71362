"""The arms of OpenArm as the experts move them."""

import numpy as np

from lingbot_va_sim.experts.motion import ArmMotion, Pace
from lingbot_va_sim.kinematics import ArmKinematics
from lingbot_va_sim.simulation import Simulation

JOINTS = (*(f'joint{number}' for number in range(1, 8)), 'finger_joint1')
TOOL = (0.0, 0.0, -0.15)  # between the fingertips, in the frame of the hand: x is up, the fingers point along -z
TURNED = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # the tool: x forward, z up
OPENS = {'left': 1.0, 'right': -1.0}
SEEDS = {  # elbows hang, no joint is near its end; of the left arm when its fingers are above each other; rad
    'left': (0.1, -0.4, 0.6, 1.9, 1.2, 0.1, 0.0),
    'right': (-0.3, 0.3, 0.0, 1.9, 0.2, 0.2, 0.4),
}


def openarm_arms(simulation: Simulation, start: np.ndarray, pace: Pace) -> dict[str, ArmMotion]:
    """Return both arms at the joint targets `start` [joints of the profile]."""
    profile, model = simulation.profile, simulation.robot.model
    velocity, acceleration = profile.limits('velocity'), profile.limits('acceleration')
    index = {joint.name: i for i, joint in enumerate(profile.joints)}
    arms = {}
    for side, seed in SEEDS.items():
        names = [f'openarm_{side}_{name}' for name in JOINTS]
        own = [index[name] for name in names]
        arms[side] = ArmMotion(
            ArmKinematics(model, names[:-1], f'openarm_{side}_ee_base_link', TOOL, TURNED),
            start[own],
            velocity[own],
            acceleration[own],
            lambda pose, seed=seed: np.array(seed),
            profile.clock.action_ns / 1e9,
            pace,
            OPENS[side],
        )
    return arms
