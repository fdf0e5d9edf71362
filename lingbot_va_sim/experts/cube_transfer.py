"""Two arms and a cube: the right one takes it from the table and gives it to the left one, whichever the robot."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from lingbot_va_sim.experts.expert import Expert, ExpertError
from lingbot_va_sim.experts.motion import ArmMotion, ToolPose
from lingbot_va_sim.experts.noise import push

TRIES = 4
LIFTED_M = 0.015
BESIDE_M = 0.035  # deviation in x and y
GONE_M = 0.05  # farther beside the tool, the cube has not just fallen
NOTICE_S = (0.3, 0.5)  # after the lift; sooner, what a policy learns to do would be due before it can have seen why
CARRY_M_S = 0.15  # faster, the cube shifts between the fingers


class CubeTransfer(Expert):
    """Picks the cube with the right arm, meets the left gripper in the air, lets go; goes on from where others stopped.

    What goes wrong on purpose: the right gripper closes above (`high`) or before (`short`) the cube; the cube is pushed
    away while the gripper comes down (`pushed`); the gripper loses the cube while it is lifted (`lost`). If asked for,
    the gripper is led to a place beside the cube and comes down from there (`beside`), so that the way to the cube
    does not follow from the way before. A subclass knows the robot, and draws the attributes beside `arms` for each
    attempt.

    Attributes:
        CUBE: the joint of the cube.
        REST_M: height of its centre on the table.
        REGION: x and y where the right arm can pick.
        IN_HAND_M: farther from the planned tool, the cube is not between the fingers.
        OPENED: an opening of the gripper that it has passed when it closes.
        VIA: deviations [joints without gripper] of the ways to the cube, rad.
        ASIDE: where the right hand goes when it has let go, beside back; m in the world.
        above: height above the cube from which the gripper comes down, m.
        meet: where the hands meet, m [3].
        closed, half_open: openings of the grippers, in the unit of their joints.
    """

    MISTAKES: ClassVar[tuple[str, ...]] = ('high', 'short', 'pushed', 'lost')
    ASKED_MISTAKES: ClassVar[tuple[str, ...]] = ('beside',)
    CUBE: ClassVar[str]
    REST_M: ClassVar[float]
    REGION: ClassVar[tuple[tuple[float, float], tuple[float, float]]]
    IN_HAND_M: ClassVar[float]
    OPENED: ClassVar[float]
    VIA: ClassVar[tuple[float, ...]]
    ASIDE: ClassVar[tuple[float, float, float]]
    above: float
    meet: np.ndarray
    closed: float
    half_open: float

    @abstractmethod
    def grasp(self, cube: np.ndarray) -> ToolPose:
        """Return the pose in which the right gripper takes the cube that lies at `cube` [3]."""

    @abstractmethod
    def present(self) -> ToolPose:
        """Return the pose in which the right gripper holds the cube for the left one."""

    @abstractmethod
    def receive(self, back: float) -> ToolPose:
        """Return the pose in which the left gripper takes the cube, or waits so far behind it."""

    def script(self) -> Iterator[None]:
        """Pick, hand over; again if the cube falls."""
        left = self.arms['left']
        left.wait(self.vary(0.0, 0.6))
        self._ready(left)
        yield from self._take_over()
        for _ in range(TRIES):
            yield from self._pick()
            yield from self._hand_over()
            if self._in_hand('left') and self.simulation.success:
                return
            left.grip(self.half_open)
            self._ready(left)
        raise ExpertError('the cube was dropped too often')

    def _take_over(self) -> Iterator[None]:
        """From where somebody else has led the right hand: lift a cube that is between its fingers, or rise to look."""
        right, tool = self.arms['right'], self._tool('right')
        if self._at_cube('right'):
            right.grip(self.closed, 0.1)
            yield from self.until_idle('right')
            yield from self._lift(lose_it=False)
        elif tool.position[2] < self.REST_M + self.above:
            right.grip(self.half_open)
            right.line(tool.moved(z=self.REST_M + self.above - tool.position[2]))
            yield from self.until_idle('right')

    def _pick(self) -> Iterator[None]:
        right = self.arms['right']
        for _ in range(TRIES):
            if self._in_hand('right'):
                return
            mistake, self.mistake = self.mistake, None
            planned = mistake if mistake in ('high', 'short', 'beside') else None
            yield from self._reach(planned, push_it=mistake == 'pushed')
            yield from self._lift(lose_it=mistake == 'lost')
            if self._in_hand('right'):
                return
            if np.linalg.norm(self._cube()[:2] - self._tool('right').position[:2]) > GONE_M:
                right.wait(self.vary(*NOTICE_S))
            right.grip(self.half_open)
            yield from self.until_idle('right')
        raise ExpertError('the cube cannot be grasped')

    def _reach(self, mistake: str | None, push_it: bool) -> Iterator[None]:
        """Go to the cube and close the gripper; look again when the cube moves away meanwhile."""
        right, closed = self.arms['right'], False
        while not closed:
            grasp = self._grasp()
            above = grasp.moved(z=self.above)
            via = self.random.normal(0, self.VIA)
            if mistake == 'beside':
                beside = above.moved(*self.random.normal(0, BESIDE_M, 2), self.vary(0.0, 0.03))
                right.mistake(
                    lambda arm, at=beside, via=via: arm.to(at, self.half_open, via),
                    lambda arm, at=above, via=via: arm.to(at, self.half_open, via),
                )
            else:
                right.to(above.moved(*self.random.normal(0, 0.008, 2)), self.half_open, via)
            if mistake in ('high', 'short'):
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
                if moved and right.gripper_target > self.OPENED and self._speed() < 0.02:
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
                lambda arm: (arm.line(above), arm.grip(self.half_open, 0.1)),
                lambda arm: (arm.line(above), arm.grip(held, 0.1)),
            )
        else:
            right.line(above)
        yield from self.until_idle('right')

    def _hand_over(self) -> Iterator[None]:
        left, right = self.arms['left'], self.arms['right']
        right.to(self.present())
        yield from self.until_idle('left', 'right')
        left.line(self.receive(0.0))
        left.grip(self.closed, 0.12)
        yield from self.until_idle('left')
        if not self._in_hand('right'):
            return
        right.grip(self.half_open)
        right.line(self._tool('right').back(0.06).moved(*self.ASIDE))
        yield from self.until_idle('right')
        left.line(self.receive(self.vary(0.02, 0.05)), CARRY_M_S)
        left.wait(self.vary(0.3, 0.5))
        yield from self.until_idle('left')

    def _ready(self, left: ArmMotion) -> None:
        """Bring the left gripper to where it waits for the cube."""
        left.to(self.receive(self.above + 0.03), self.half_open)

    def _grasp(self) -> ToolPose:
        cube = self._cube()
        inside = all(low < value < high for value, (low, high) in zip(cube[:2], self.REGION, strict=True))
        if not inside or abs(cube[2] - self.REST_M) > 0.015:
            raise ExpertError(f'the cube is out of reach at {np.round(cube, 3).tolist()}')
        return self.grasp(cube)

    def _wrong(self, grasp: ToolPose, mistake: str) -> ToolPose:
        if mistake == 'high':
            return grasp.moved(*self.random.normal(0, 0.006, 2), self.vary(0.045, 0.06))
        return grasp.back(self.vary(0.045, 0.06)).moved(z=self.vary(-0.02, 0.0))

    def _close_at(self, right: ArmMotion, pose: ToolPose) -> None:
        right.line(pose)
        right.grip(self.closed, 0.1)

    def _push(self) -> None:
        angle, speed = self.vary(-np.pi, np.pi), self.vary(0.5, 0.9)
        push(self.simulation.data, self.CUBE, speed * np.array([np.cos(angle), np.sin(angle)]))

    def _cube(self) -> np.ndarray:
        return self.simulation.data.joint(self.CUBE).qpos[:3].copy()

    def _speed(self) -> float:
        return float(np.linalg.norm(self.simulation.data.joint(self.CUBE).qvel[:3]))

    def _tool(self, side: str) -> ToolPose:
        """Return where the plan has a tool now."""
        return self.arms[side].pose()

    def _distance(self, pose: ToolPose) -> float:
        return float(np.linalg.norm(np.subtract(self._tool('right').position, pose.position)))

    def _in_hand(self, side: str) -> bool:
        """Whether the cube is off the table and between the fingers."""
        return self._at_cube(side) and self._cube()[2] > self.REST_M + LIFTED_M

    def _at_cube(self, side: str) -> bool:
        """Whether the plan has a tool where the cube is."""
        return bool(np.linalg.norm(self._cube() - self._tool(side).position) < self.IN_HAND_M)
