"""ALOHA: the right arm takes the peg, the left arm the socket, and they put one into the other in the air."""

from collections.abc import Generator, Iterator
from typing import ClassVar

import mujoco
import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_sim.experts.aloha import CLOSED, OPEN, aloha_arms, facing
from lingbot_va_sim.experts.expert import Expert, ExpertError
from lingbot_va_sim.experts.motion import ArmMotion, Pace, ToolPose
from lingbot_va_sim.simulation import Simulation

OBJECTS = {'right': 'red_peg_joint', 'left': 'blue_socket_joint'}
GRIP_M = {'right': 0.02, 'left': -0.02}  # along x from the middle of the object: the ends that meet stay free
GRIP_HEIGHT_M = {'right': 0.026, 'left': 0.026}
HALF_LENGTH_M = 0.06  # of peg and socket
MOUTH_M = 0.008  # between their ends where they are aligned for the last time
DEPTH_M = 0.026  # to the pin are 0.02
PUSHES, PUSH_M = 5, 0.003  # against the pin, as the objects give way in the hands
STEADY_S = 0.5  # it may rebound from the pin
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
                place = self._meet + np.array([sign * (HALF_LENGTH_M + self._gap / 2), 0.0, 0.0])
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
            above = grasp.moved(z=self._above).back(self.random.normal(0, 0.006))  # elsewhere the wrist would turn
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
        """Bring the end of the peg in line with the mouth of the socket, at last close to it: arms sag on their way."""
        right = self.arms['right']
        for gap in (self._gap, MOUTH_M, MOUTH_M):
            right.wait(0.1)
            yield from self.until_idle('right')
            error = self._end('left', HALF_LENGTH_M) - self._end('right', -HALF_LENGTH_M)
            right.line(right.pose().moved(*error).moved(x=gap), SLOW_M_S)
            yield from self.until_idle('right')

    def _insert(self) -> Iterator[None]:
        """Push the peg in until it stays at the pin; draw it back if it does not get there."""
        right = self.arms['right']
        before = right.pose()
        right.line(before.moved(x=-MOUTH_M - DEPTH_M), INSERT_M_S)
        yield from self.until_idle('right', unless=lambda: self.simulation.success or not self._in_hand('right'))
        right.stop()
        for _ in range(PUSHES):
            right.line(right.pose().moved(x=-PUSH_M), INSERT_M_S)
            yield from self.until_idle('right')
            if (yield from self._stays()) or not self._in_hand('right'):
                return
        right.line(before.moved(x=self._gap), SLOW_M_S)
        yield from self.until_idle('right')

    def _stays(self) -> Generator[None, None, bool]:
        """Return whether the peg is at the pin without interruption for a while; soon if it is away from there."""
        periods = round(STEADY_S * NANOSECONDS / self.simulation.profile.clock.action_ns)
        inside = outside = 0
        while max(inside, outside) < periods:
            yield
            inside, outside = (inside + 1, outside) if self.simulation.success else (0, outside + 1)
        return inside == periods

    def _end(self, side: str, along: float) -> np.ndarray:
        """Return the point of an object so far from its middle, along its x axis."""
        point = np.empty(3)
        mujoco.mju_rotVecQuat(point, (along, 0.0, 0.0), self.simulation.data.joint(OBJECTS[side]).qpos[3:])
        return self._place(side) + point

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
