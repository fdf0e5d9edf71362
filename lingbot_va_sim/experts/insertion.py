"""ALOHA: the right arm takes the peg, the left arm the socket, and they put one into the other in the air."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from lingbot_va_sim.experts.aloha import CLOSED, OPEN, aloha_arms, facing
from lingbot_va_sim.experts.expert import Expert, ExpertError
from lingbot_va_sim.experts.motion import ArmMotion, Pace, ToolPose
from lingbot_va_sim.simulation import Simulation

OBJECTS = {'right': 'red_peg_joint', 'left': 'blue_socket_joint'}
GRIP_M = {'right': 0.02, 'left': -0.02}  # along x from the middle of the object: the ends that meet stay free
GRIP_HEIGHT_M = {'right': 0.026, 'left': 0.026}
HALF_LENGTHS_M = 0.06 + 0.06  # of peg and socket
DEPTH_M = 0.028  # to the pin are 0.02
TRIES = 4
IN_HAND_M = 0.05
SLOW_M_S, INSERT_M_S = 0.2, 0.08
REGION = {'right': ((-0.03, 0.26), (0.34, 0.66)), 'left': ((-0.26, 0.03), (0.34, 0.66))}  # x and y


class InsertionExpert(Expert):
    """Both arms pick at once, hold their objects in line, and the right arm pushes the peg in.

    It looks where the objects are in the hands before it inserts, and begins again with what fell or missed. What goes
    wrong on purpose: the right gripper closes above (`high`) or before (`short`) the peg.
    """

    MISTAKES: ClassVar[tuple[str, ...]] = ('high', 'short')
    NOISE_RAD: ClassVar[tuple[float, ...]] = (0.0, 0.0015, 0.003)

    def __init__(self, simulation: Simulation, random: np.random.Generator, mistake: str | None = None) -> None:
        super().__init__(simulation, random, mistake)
        hurry = self.vary(0.8, 1.25)
        pace = Pace(velocity=0.55 * hurry, acceleration=0.45 * hurry, line=0.3 * hurry)
        self.arms = aloha_arms(simulation, simulation.targets, pace)
        self._pitch = {side: np.radians(self.vary(50, 62)) for side in self.arms}
        self._above = self.vary(0.07, 0.1)
        self._meet = np.array([self.vary(-0.03, 0.03), 0.5 + self.vary(-0.015, 0.015), self.vary(0.16, 0.22)])
        self._gap = self.vary(0.03, 0.05)
        self._closed = self.vary(CLOSED, CLOSED + 0.002)
        self._half_open = self.vary(0.053, OPEN)

    def script(self) -> Iterator[None]:
        """Pick, align, insert; again what went wrong."""
        self.arms['left'].wait(self.vary(0.0, 0.4))
        for _ in range(TRIES):
            yield from self.together(*(self._pick(side) for side in self.arms if not self._in_hand(side)))
            for side, sign in (('left', -1.0), ('right', 1.0)):
                place = self._meet + np.array([sign * (HALF_LENGTHS_M + self._gap) / 2, 0.0, 0.0])
                self.arms[side].to(self._held_at(side, place))
            yield from self.until_idle('left', 'right')
            yield from self._align()
            yield from self._insert()
            if self.simulation.success:
                return
            for side in self.arms:
                if not self._in_hand(side):
                    self.arms[side].grip(self._half_open, 0.3)
            yield from self.until_idle('left', 'right')
        raise ExpertError('the peg does not get in')

    def _pick(self, side: str) -> Iterator[None]:
        """Take an object and lift it."""
        arm = self.arms[side]
        for _ in range(TRIES):
            mistake = self.mistake if side == 'right' else None
            grasp = self._grasp(side)
            above = grasp.moved(*self.random.normal(0, 0.006, 2), self._above)
            arm.to(above, self._half_open, self.random.normal(0, (0.05, 0.05, 0.05, 0, 0.05, 0)))
            if mistake:
                self.mistake = None
                wrong = grasp.moved(z=self.vary(0.04, 0.055)) if mistake == 'high' else self._short(grasp)
                arm.mistake(
                    lambda own, at=wrong: self._close_at(own, at), lambda own, at=grasp: self._close_at(own, at)
                )
            else:
                self._close_at(arm, grasp)
            yield from self.until_idle(side)
            arm.line(arm.pose().moved(z=self.vary(0.05, 0.08)), SLOW_M_S)
            yield from self.until_idle(side)
            if self._in_hand(side):
                return
            arm.grip(self._half_open)
            yield from self.until_idle(side)
        raise ExpertError(f'the {side} arm cannot grasp its object')

    def _align(self) -> Iterator[None]:
        """Bring the peg in line with the socket, `gap` before it."""
        right = self.arms['right']
        for _ in range(2):
            right.wait(0.1)
            yield from self.until_idle('right')
            error = self._place('left') - self._place('right')
            error[0] += HALF_LENGTHS_M + self._gap
            right.line(right.pose().moved(*error), SLOW_M_S)
            yield from self.until_idle('right')

    def _insert(self) -> Iterator[None]:
        """Push the peg in; draw it back if it did not reach the pin."""
        right = self.arms['right']
        before = right.pose()
        right.line(before.moved(x=-self._gap - DEPTH_M), INSERT_M_S)
        right.wait(self.vary(0.3, 0.5))
        yield from self.until_idle('right', unless=lambda: not self._in_hand('right'))
        right.stop()
        if not self.simulation.success:
            right.line(before, SLOW_M_S)
            yield from self.until_idle('right')

    def _held_at(self, side: str, place: np.ndarray) -> ToolPose:
        """Return the pose of the tool that brings the object in its hand to a place, as it was grasped."""
        position = place + np.array([GRIP_M[side], 0.0, 0.0])
        return ToolPose(tuple(position), facing(self.simulation, side, position), self._pitch[side])

    def _grasp(self, side: str) -> ToolPose:
        place = self._place(side)
        inside = all(low < value < high for value, (low, high) in zip(place[:2], REGION[side], strict=True))
        turned = np.abs(self.simulation.data.joint(OBJECTS[side]).qpos[4:]).max()  # of the quaternion: sin(angle / 2)
        if not inside or place[2] > 0.04 or turned > 0.25:
            raise ExpertError(f'the object of the {side} arm is out of reach at {np.round(place, 3).tolist()}')
        position = np.array([place[0] + GRIP_M[side], place[1], GRIP_HEIGHT_M[side]])
        return ToolPose(tuple(position), facing(self.simulation, side, position), self._pitch[side])

    def _short(self, grasp: ToolPose) -> ToolPose:
        return grasp.back(self.vary(0.07, 0.08)).moved(z=self.vary(-0.02, 0.0))

    def _close_at(self, arm: ArmMotion, pose: ToolPose) -> None:
        arm.line(pose)
        arm.grip(self._closed, 0.12)

    def _place(self, side: str) -> np.ndarray:
        return self.simulation.data.joint(OBJECTS[side]).qpos[:3].copy()

    def _in_hand(self, side: str) -> bool:
        """Whether the object is off the table and between the fingers."""
        place = self._place(side)
        return bool(np.linalg.norm(place - self.arms[side].pose().position) < IN_HAND_M and place[2] > 0.04)
