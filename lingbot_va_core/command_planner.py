"""From action chunks to the command of each control period and the motion that follows it, on robots and elsewhere."""

from dataclasses import dataclass

import numpy as np

from lingbot_va_core.action_layout import ActionLayout
from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.command_filter import CommandFilter
from lingbot_va_core.command_window import CommandWindow, ToolPoses
from lingbot_va_core.executed_log import ExecutedFrame, ExecutedLog
from lingbot_va_core.joint_targets import JointTargets
from lingbot_va_core.kinematics import joint_limits, read_kinematics
from lingbot_va_core.motion import Splice, Timeline
from lingbot_va_core.robot import ACTION_DIM, POSE_CHANNELS, RobotProfile
from lingbot_va_core.tracking import TrackingError
from lingbot_va_core.workspace import WorkspaceGuard

HOLD = -1  # as in lingbot_va_msgs/DualArmCommand
WINDOW_POINTS = 15  # control periods that are planned: what a stop from full speed leaves of them is motion
NO_LIMITS = np.zeros(1, dtype=np.uint8)
NO_CHANNELS = np.zeros(ACTION_DIM, dtype=bool)
PULL = 64  # control periods in which a constant offset between timer and motion clock fades
REMEMBERED_S = 0.2  # commands that count as recent, when the measured state is compared with them


class PlannerError(ValueError):
    """A robot whose commands cannot be planned so."""


@dataclass(frozen=True)
class Command:
    """What is commanded in one control period.

    Attributes:
        action: as an action vector, float64 [values].
        chunk: the chunk that it comes from, the last one while the arms hold.
        index: its place in the chunk, or HOLD.
        limits: what changed it, a sum of the constants in `lingbot_va_core/limits.py`; 0 where nothing did.
        limited_channels: channels of the universal action that were changed, bool [30].
        speed: at which the motion goes, 0 to 1.
        paused: motion is planned for now, but its speed is 0.
        gross: why the motion that is planned must not be followed, or ''; the command brakes then.
        frames: latent frames whose motion is complete with it.
    """

    action: np.ndarray
    chunk: int
    index: int
    limits: int
    limited_channels: np.ndarray
    speed: float
    paused: bool
    gross: str
    frames: list[ExecutedFrame]


class CommandPlanner:
    """Follows the planned motion within the limits; without one it brakes and holds.

    Attributes:
        profile: of the robot.
        window: what is to be sent: the command, the motion that follows as far as it is planned, and a stop.
        timeline: the planned motion.
    """

    def __init__(self, profile: RobotProfile, window_points: int | None = None) -> None:
        """Plan windows of so many control periods; None: WINDOW_POINTS, or more where a stop takes longer.

        Raises:
            PlannerError: a stop from full speed does not fit into them, or it is not known where a tool is.
            KinematicsError, LimitError, ProfileError: the profile and the robot's description do not go together.
        """
        self.profile = profile
        self._dt_ns = profile.clock.action_ns
        self._dt = dt = self._dt_ns / NANOSECONDS
        self._layout = ActionLayout.from_channels(profile.channels)
        for arm in profile.arms:
            if arm.pose_in_action and not arm.arm_joints:
                raise PlannerError(
                    f'the {arm.side} arm of {profile.name} is commanded by a pose, but none of its joints is listed: '
                    'where its tool is measured at the start cannot be known; list its joints, without a channel'
                )
        kinematics = read_kinematics(profile)
        limits = joint_limits(profile, kinematics)
        guard = WorkspaceGuard.from_profile(profile, kinematics, limits.acceleration, dt) if kinematics else None
        self._filter = CommandFilter(limits, dt, guard)
        self._targets = JointTargets(profile, kinematics, limits, dt)
        least = self._filter.stopping_steps + 1
        self._points = max(WINDOW_POINTS, least) if window_points is None else window_points
        if self._points < least:
            raise PlannerError(
                f'window_points is {window_points}, but a stop from full speed takes {least - 1} control periods on '
                f'{profile.name}; set it to at least {least}'
            )
        self._moving = self._points - least + 1
        self._tools = ToolPoses(profile, kinematics)
        self._channels = limited_channels(profile)
        self._runs_on = runs_on(profile)
        joints = np.zeros((self._points, len(profile.joints)))
        self.window = CommandWindow(0, joints, joints, self._tools)
        self._tracking = TrackingError(profile, round(REMEMBERED_S / dt))
        self._action = self._nothing = np.zeros(len(profile.channels))
        self.restart()

    def restart(self) -> None:
        """Begin a new clock, with nothing planned; the arms stay where they are."""
        self.timeline = Timeline(
            self._layout,
            self._dt_ns,
            self.profile.clock.actions_per_latent,
            ramp_s=self._filter.stopping_steps * self._dt,  # no joint brakes harder than it may
        )
        self._log = ExecutedLog(self.timeline)
        self._beat_ns: int | None = None
        self._moving_ns = 0  # of the window: how long it follows the plan
        self._chunk = 0

    def arm(self, measured: np.ndarray) -> None:
        """Start at rest where the joints were measured, float64 [joints], with nothing planned."""
        self._filter.reset(measured)
        self._beat_ns = None  # the window before is of another place
        self._tracking.reset(measured)
        self._action = self._targets.action(measured, self._nothing)  # whatever was before
        self.drop()

    def drop(self) -> None:
        """Forget the planned motion and the latent frame in execution; the next commands brake."""
        self.timeline.clear()
        self._log.clear()

    @property
    def at_rest(self) -> bool:
        """Whether the command stands still."""
        return not self._filter.velocity.any()

    @property
    def action(self) -> np.ndarray:
        """The last command as an action vector, float64 [values]; not to be changed."""
        return self._action

    def tracking_error(self, measured: np.ndarray) -> tuple[float, str]:
        """Return how far an arm's joint is from its recent commands, and which one."""
        return self._tracking.worst(measured)

    def splice(self, first_latent_index: int, start_ns: int, dt_ns: int, actions: np.ndarray, chunk: int) -> Splice:
        """Add a chunk to the planned motion, see `Timeline.splice`; a ChunkError says why it is refused."""
        sent = self._action if self.timeline.holding else None
        return self.timeline.splice(first_latent_index, start_ns, dt_ns, actions, chunk, sent)

    def step(self, now_ns: int, speed: float, elapsed_ns: int | None = None) -> Command:
        """Advance by one control period at a speed from 0 to 1, and plan the window from there.

        After periods in which this was not called, joints that follow their window go on from where it has brought
        them, the others from the last command.

        Args:
            now_ns: on the clock of the chunks.
            speed: of the motion.
            elapsed_ns: since the step before, as the robot's controllers know it; None: on the same clock.
        """
        elapsed_ns = now_ns - self.window.stamp_ns if elapsed_ns is None else elapsed_ns
        most_ns = max(2 * self._dt_ns, self._moving_ns) if self._held_up(now_ns, elapsed_ns) else None
        self.timeline.advance(self._beat_ns + self._dt_ns, speed, most_ns)
        planned = self.timeline.window(self._moving)
        targets, gross = None, ''
        if planned:
            targets = self._targets.targets(planned.values, planned.velocities, self._filter.position)
            gross = self._gross(targets.positions[0])
        if targets is None or gross:
            motion, limits = self._filter.hold(self._points), NO_LIMITS
        else:
            motion = self._filter.follow(targets.positions, targets.velocities, self._points)
            limits = motion.limits | targets.limits
        self.window = CommandWindow(now_ns, motion.positions, motion.velocities, self._tools)
        self._moving_ns = motion.moving * self._dt_ns
        self._tracking.add(motion.positions[0])
        self._action = self._targets.action(motion.positions[0], self._action)
        paused = planned is not None and self.timeline.speed == 0
        changed = bool(limits.any())
        frames = self._log.add(self._action, changed, paused)
        if planned:
            self._chunk = planned.chunk
        return Command(
            action=self._action,
            chunk=self._chunk,
            index=planned.index if planned and not paused and not gross else HOLD,
            limits=int(np.bitwise_or.reduce(limits)),
            limited_channels=self._channels[limits != 0].any(axis=0) if changed else NO_CHANNELS,
            speed=self.timeline.speed,
            paused=paused,
            gross=gross,
            frames=frames,
        )

    def _held_up(self, now_ns: int, elapsed_ns: int) -> bool:
        """Note the time of this control period; return whether joints went on by themselves in periods before it.

        The time is without the jitter of the timer, which is early or late by a part of its period: motion that took
        this for time would shake.
        """
        if self._beat_ns is None:
            self._beat_ns = now_ns
            return False
        periods = max(1, round((now_ns - self._beat_ns) / self._dt_ns))
        if periods > 1 and round(elapsed_ns / self._dt_ns) > 1 and self._runs_on.any():
            self._beat_ns = now_ns
            self._go_on(elapsed_ns / self._dt_ns - 1)
            return True
        self._beat_ns += periods * self._dt_ns
        self._beat_ns += (now_ns - self._beat_ns) // PULL
        return False

    def _go_on(self, row: float) -> None:
        """Take up the joints that follow their window at this row of it, a fraction too."""
        rows = self.window.positions
        first = min(int(row), len(rows) - 2)
        step = rows[first + 1] - rows[first]
        position = rows[first] + step * min(row - first, 1.0)
        velocity = step / self._dt if row < len(rows) - 1 else np.zeros_like(step)
        self._filter.reset(
            np.where(self._runs_on, position, self._filter.position),
            np.where(self._runs_on, velocity, self._filter.velocity),
        )

    def _gross(self, target: np.ndarray) -> str:
        """Say which joint cannot mean its target, or return ''."""
        gross = self._filter.gross(target)
        if not gross.any():
            return ''
        joint = int(gross.argmax())
        return (
            f'{self.profile.joints[joint].name} was to go from {self._filter.position[joint]:.4g} to '
            f'{target[joint]:.4g}, more than it can in a second at full speed'
        )


def runs_on(profile: RobotProfile) -> np.ndarray:
    """Return which joints follow a trajectory, which moves them even while nothing new comes, bool [joints]."""
    found = []
    for arm in profile.arms:
        joints, trajectory = arm.joints, bool(arm.end_effector and arm.end_effector.trajectory_topic)
        if arm.output is not None:
            joints, trajectory = arm.output_joints, arm.output.type == 'joint_trajectory'
        gripper = arm.gripper is not None and arm.gripper.type == 'joint_trajectory'
        found += [trajectory if joint in joints else gripper for joint in arm.joints]
    return np.array(found, dtype=bool)


def limited_channels(profile: RobotProfile) -> np.ndarray:
    """Return which channels change when a limit changes a joint, bool [joints, 30]: its own, or its arm's pose."""
    changed = np.zeros((len(profile.joints), ACTION_DIM), dtype=bool)
    arms = [arm for arm in profile.arms for _ in arm.joints]
    for row, arm, joint in zip(changed, arms, profile.joints, strict=True):
        row[list(POSE_CHANNELS[arm.side]) if joint.channel is None else joint.channel] = True
    return changed
