"""ALOHA: the right arm takes the cube from the table and gives it to the left arm."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from lingbot_va_sim.experts.aloha import CLOSED, OPEN, aloha_arms, facing
from lingbot_va_sim.experts.expert import Expert, ExpertError
from lingbot_va_sim.experts.motion import ArmMotion, Pace, ToolPose
from lingbot_va_sim.experts.noise import push
from lingbot_va_sim.simulation import Simulation

CUBE = 'red_box_joint'
CUBE_REST_M = 0.02  # height of its centre on the table
TRIES = 4
IN_HAND_M = 0.035
CARRY_M_S = 0.15  # faster, the cube shifts between the fingers
REGION = ((-0.06, 0.27), (0.33, 0.67))  # x and y where the right arm can pick


class TransferCubeExpert(Expert):
    """Picks the cube from the side of the right arm's base, meets the left gripper in the air, lets go.

    The tools stay in the vertical planes of their arms, where the inverse kinematics has no second branch. What goes
    wrong on purpose: the right gripper closes above (`high`) or before (`short`) the cube; the cube is pushed away
    while the gripper comes down (`pushed`); the gripper loses the cube while it is lifted (`lost`).
    """

    MISTAKES: ClassVar[tuple[str, ...]] = ('high', 'short', 'pushed', 'lost')

    def __init__(self, simulation: Simulation, random: np.random.Generator, mistake: str | None = None) -> None:
        super().__init__(simulation, random, mistake)
        hurry = self.vary(0.8, 1.25)
        pace = Pace(velocity=0.6 * hurry, acceleration=0.5 * hurry, line=0.35 * hurry)
        self.arms = aloha_arms(simulation, simulation.targets, pace)
        self._pitch = np.radians(self.vary(52, 68))
        self._above = self.vary(0.07, 0.11)
        self._depth = self.vary(-0.004, 0.004)
        self._meet = np.array([self.vary(-0.02, 0.04), 0.5 + self.vary(-0.03, 0.03), self.vary(0.2, 0.27)])
        self._closed = self.vary(CLOSED, CLOSED + 0.002)
        self._half_open = self.vary(0.053, OPEN)

    def script(self) -> Iterator[None]:
        """Pick, hand over; again if the cube falls."""
        left = self.arms['left']
        left.wait(self.vary(0.0, 0.6))
        self._ready(left)
        for _ in range(TRIES):
            yield from self._pick()
            yield from self._hand_over()
            if self._in_hand('left') and self.simulation.success:
                return
            left.grip(self._half_open)
            self._ready(left)
        raise ExpertError('the cube was dropped too often')

    def _pick(self) -> Iterator[None]:
        right = self.arms['right']
        for _ in range(TRIES):
            mistake, self.mistake = self.mistake, None
            yield from self._reach(mistake if mistake in ('high', 'short') else None, push_it=mistake == 'pushed')
            yield from self._lift(lose_it=mistake == 'lost')
            if self._in_hand('right'):
                return
            right.grip(self._half_open)
            yield from self.until_idle('right')
        raise ExpertError('the cube cannot be grasped')

    def _reach(self, mistake: str | None, push_it: bool) -> Iterator[None]:
        """Go to the cube and close the gripper; look again when the cube moves away meanwhile."""
        right, closed = self.arms['right'], False
        while not closed:
            grasp = self._grasp()
            above = grasp.moved(z=self._above)
            via = self.random.normal(0, (0.06, 0.06, 0.06, 0, 0.06, 0))
            right.to(above.moved(*self.random.normal(0, 0.008, 2)), self._half_open, via)
            if mistake:
                wrong = self._wrong(grasp, mistake)
                right.mistake(
                    lambda arm, at=wrong: self._close_at(arm, at), lambda arm, at=grasp: self._close_at(arm, at)
                )
            else:
                self._close_at(right, grasp)
            seen, pushed_at = self._cube(), self.random.integers(5, 45) if push_it else None
            for step, _ in enumerate(self.until_idle('right')):
                if pushed_at is not None and step >= pushed_at and self._distance(grasp) < 0.15:
                    self._push()
                    pushed_at, push_it = None, False
                moved = np.linalg.norm(self._cube()[:2] - seen[:2]) > 0.012
                if moved and right.gripper_target > 0.05 and self._speed() < 0.02:
                    right.stop()
                    break
                yield
            else:
                closed = True

    def _lift(self, lose_it: bool) -> Iterator[None]:
        right = self.arms['right']
        above = self._tool('right').moved(z=self.vary(0.05, 0.08))
        if lose_it:
            held = right.gripper
            right.mistake(
                lambda arm: (arm.line(above), arm.grip(self._half_open, 0.1)),
                lambda arm: (arm.line(above), arm.grip(held, 0.1)),
            )
        else:
            right.line(above)
        yield from self.until_idle('right')

    def _hand_over(self) -> Iterator[None]:
        left, right = self.arms['left'], self.arms['right']
        meet = ToolPose(tuple(self._meet), facing(self.simulation, 'right', self._meet), self._pitch)
        right.to(meet)
        yield from self.until_idle('left', 'right')
        left.line(self._receive(0.0))
        left.grip(self._closed, 0.12)
        yield from self.until_idle('left')
        if not self._in_hand('right'):
            return
        right.grip(self._half_open)
        right.line(self._tool('right').back(0.06).moved(x=0.03))
        yield from self.until_idle('right')
        left.line(self._receive(self.vary(0.02, 0.05)), CARRY_M_S)
        left.wait(self.vary(0.3, 0.5))
        yield from self.until_idle('left')

    def _ready(self, left: ArmMotion) -> None:
        """Bring the left gripper to where it waits for the cube."""
        left.to(self._receive(self._above + 0.03), self._half_open)

    def _receive(self, back: float) -> ToolPose:
        """Return the pose in which the left gripper takes the cube, fingers above and below, or waits before it."""
        position = self._meet + np.array([-0.012, 0.0, 0.0])
        pose = ToolPose(tuple(position), facing(self.simulation, 'left', position), 0.0, np.pi / 2)
        return pose.back(back)

    def _grasp(self) -> ToolPose:
        cube = self._cube()
        inside = all(low < value < high for value, (low, high) in zip(cube[:2], REGION, strict=True))
        if not inside or abs(cube[2] - CUBE_REST_M) > 0.015:
            raise ExpertError(f'the cube is out of reach at {np.round(cube, 3).tolist()}')
        position = (cube[0], cube[1], CUBE_REST_M + self._depth)
        return ToolPose(position, facing(self.simulation, 'right', cube), self._pitch)

    def _wrong(self, grasp: ToolPose, mistake: str) -> ToolPose:
        if mistake == 'high':
            return grasp.moved(*self.random.normal(0, 0.006, 2), self.vary(0.045, 0.06))
        return grasp.back(self.vary(0.045, 0.06)).moved(z=self.vary(-0.02, 0.0))

    def _close_at(self, right: ArmMotion, pose: ToolPose) -> None:
        right.line(pose)
        right.grip(self._closed, 0.1)

    def _push(self) -> None:
        angle, speed = self.vary(-np.pi, np.pi), self.vary(0.5, 0.9)
        push(self.simulation.data, CUBE, speed * np.array([np.cos(angle), np.sin(angle)]))

    def _cube(self) -> np.ndarray:
        return self.simulation.data.joint(CUBE).qpos[:3].copy()

    def _speed(self) -> float:
        return float(np.linalg.norm(self.simulation.data.joint(CUBE).qvel[:3]))

    def _tool(self, side: str) -> ToolPose:
        """Return where the plan has a tool now."""
        return self.arms[side].pose()

    def _distance(self, pose: ToolPose) -> float:
        return float(np.linalg.norm(np.subtract(self._tool('right').position, pose.position)))

    def _in_hand(self, side: str) -> bool:
        """Whether the cube is off the table and between the fingers."""
        cube = self._cube()
        near = np.linalg.norm(cube - self._tool(side).position) < IN_HAND_M
        return bool(near) and cube[2] > CUBE_REST_M + 0.015
