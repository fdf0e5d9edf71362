"""ALOHA: the right arm takes the cube from the table and gives it to the left arm."""

from typing import ClassVar

import numpy as np

from lingbot_va_sim.experts.aloha import CLOSED, OPEN, aloha_arms, facing
from lingbot_va_sim.experts.cube_transfer import CubeTransfer
from lingbot_va_sim.experts.motion import Pace, ToolPose
from lingbot_va_sim.simulation import Simulation


class TransferCubeExpert(CubeTransfer):
    """Picks the cube from the side of the right arm's base.

    The tools stay in the vertical planes of their arms, where the inverse kinematics has no second branch.
    """

    CUBE: ClassVar[str] = 'red_box_joint'
    REST_M: ClassVar[float] = 0.02
    REGION: ClassVar[tuple[tuple[float, float], tuple[float, float]]] = ((-0.06, 0.27), (0.33, 0.67))
    IN_HAND_M: ClassVar[float] = 0.035
    OPENED: ClassVar[float] = 0.05
    VIA: ClassVar[tuple[float, ...]] = (0.06, 0.06, 0.06, 0.0, 0.06, 0.0)
    ASIDE: ClassVar[tuple[float, float, float]] = (0.03, 0.0, 0.0)

    def __init__(self, simulation: Simulation, random: np.random.Generator, mistake: str | None = None) -> None:
        super().__init__(simulation, random, mistake)
        hurry = self.vary(0.8, 1.25)
        pace = Pace(velocity=0.6 * hurry, acceleration=0.5 * hurry, line=0.35 * hurry)
        self.arms = aloha_arms(simulation, simulation.targets, pace)
        self._pitch = np.radians(self.vary(52, 68))
        self.above = self.vary(0.07, 0.11)
        self._depth = self.vary(-0.004, 0.004)
        self.meet = np.array([self.vary(-0.02, 0.04), 0.5 + self.vary(-0.03, 0.03), self.vary(0.2, 0.27)])
        self.closed = self.vary(CLOSED, CLOSED + 0.002)
        self.half_open = self.vary(0.053, OPEN)

    def grasp(self, cube: np.ndarray) -> ToolPose:
        """Point down at the cube."""
        position = (cube[0], cube[1], self.REST_M + self._depth)
        return ToolPose(position, facing(self.simulation, 'right', cube), self._pitch)

    def present(self) -> ToolPose:
        """Point down as in the grasp."""
        return ToolPose(tuple(self.meet), facing(self.simulation, 'right', self.meet), self._pitch)

    def receive(self, back: float) -> ToolPose:
        """Point along the table, fingers above and below."""
        position = self.meet + np.array([-0.012, 0.0, 0.0])
        pose = ToolPose(tuple(position), facing(self.simulation, 'left', position), 0.0, np.pi / 2)
        return pose.back(back)
