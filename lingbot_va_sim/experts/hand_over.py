"""OpenArm: the right arm takes the cube from the table and gives it to the left arm."""

from typing import ClassVar

import numpy as np

from lingbot_va_sim.experts.cube_transfer import CubeTransfer
from lingbot_va_sim.experts.motion import Pace, ToolPose
from lingbot_va_sim.experts.openarm import openarm_arms
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.tasks import CUBE_ON_TABLE_M

SHALLOW_M = 0.015  # nearer to its fingertips than in their middle the left hand takes the cube


class HandOverExpert(CubeTransfer):
    """Picks the cube from the front, with the hand turned somewhat inwards, and presents it to the other hand."""

    CUBE: ClassVar[str] = 'red_cube_joint'
    REST_M: ClassVar[float] = CUBE_ON_TABLE_M
    REGION: ClassVar[tuple[tuple[float, float], tuple[float, float]]] = ((0.36, 0.54), (-0.29, -0.08))
    IN_HAND_M: ClassVar[float] = 0.05
    OPENED: ClassVar[float] = 0.5
    VIA: ClassVar[tuple[float, ...]] = (0.06, 0.06, 0.06, 0.06, 0.06, 0.0, 0.06)
    ASIDE: ClassVar[tuple[float, float, float]] = (0.0, -0.03, 0.0)

    def __init__(self, simulation: Simulation, random: np.random.Generator, mistake: str | None = None) -> None:
        super().__init__(simulation, random, mistake)
        hurry = self.vary(0.8, 1.25)
        pace = Pace(velocity=0.4 * hurry, acceleration=0.3 * hurry, line=0.3 * hurry)
        self.arms = openarm_arms(simulation, simulation.targets, pace)
        self._pitch, self._yaw = np.radians(self.vary(15, 23)), np.radians(self.vary(14, 28))
        self._facing = np.radians(self.vary(55, 66))
        self.above = self.vary(0.07, 0.1)
        self._depth = self.vary(0.006, 0.014)
        self.meet = np.array([self.vary(0.445, 0.485), self.vary(-0.03, 0.02), self.vary(1.13, 1.19)])
        self.closed = self.vary(0.0, 0.05)
        self.half_open = self.vary(0.55, 0.65)

    def grasp(self, cube: np.ndarray) -> ToolPose:
        """Point forward and down at the cube."""
        return ToolPose((cube[0], cube[1], self.REST_M + self._depth), self._yaw, self._pitch)

    def present(self) -> ToolPose:
        """Point forward and inwards."""
        return ToolPose(tuple(self.meet), self._facing)

    def receive(self, back: float) -> ToolPose:
        """Point forward and inwards, fingers above and below, with room for those of the other hand before the palm."""
        return ToolPose(tuple(self.meet), -self._facing, 0.0, np.pi / 2).back(back + SHALLOW_M)
