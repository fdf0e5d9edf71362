"""The node that ticks at the control rate: action chunks in, joint trajectories within limits out."""

from collections import deque

import numpy as np
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from lingbot_va_core.clock import NANOSECONDS, VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.robot import Arm, load_profile
from lingbot_va_core.safety import CommandFilter
from lingbot_va_core.timeline import ExecutedLog, Target, Timeline
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, Episode, ExecutedActions
from lingbot_va_ros import qos
from lingbot_va_ros.conversions import MessageError, actions_field, chunk_actions, to_duration, to_time
from lingbot_va_ros.managed_node import ERROR, OK, ROBOT, WARN, ManagedNode, Parameter, RefusedError, run


class TrajectoryWindow:
    """The rolling trajectory of one arm, allocated once: a few points of motion, then a stop within the limits.

    A joint_trajectory_controller replaces the old trajectory by each new one. If none comes any more it runs to the
    end of the last, which is at rest, and holds.
    """

    def __init__(self, arm: Arm, first_joint: int, points: int, dt_ns: int) -> None:
        self._joints = slice(first_joint, first_joint + len(arm.joints))
        self.message = JointTrajectory(joint_names=[joint.name for joint in arm.joints])  # stamp 0: start now
        self.message.points = [
            JointTrajectoryPoint(time_from_start=to_duration((k + 1) * dt_ns)) for k in range(points)
        ]

    def fill(self, positions: np.ndarray, velocities: np.ndarray) -> JointTrajectory:
        """Write positions and velocities [points, joints of the robot] into the message."""
        for point, position, velocity in zip(
            self.message.points, positions[:, self._joints].tolist(), velocities[:, self._joints].tolist(), strict=True
        ):
            point.positions = position
            point.velocities = velocity
        return self.message


class ActionNode(ManagedNode):
    """Follows the newest chunk within the limits; holds without one."""

    PARAMETERS = (
        ROBOT,
        Parameter(
            'window_points',
            15,
            'Control periods in every trajectory that is sent: what is left after a stop from full speed is motion.',
            lower=3,
            upper=100,
        ),
        Parameter('joint_states_timeout_s', 0.5, 'Joint states older than this are reported.', lower=0.05, upper=10.0),
    )

    def __init__(self) -> None:
        super().__init__('action')

    def setup(self) -> None:
        """Read the profile and create entities."""
        self._profile = profile = load_profile(self.value('robot'))
        if any(arm.pose_in_action for arm in profile.arms):
            raise RefusedError(
                f'{profile.name} has end effectors in its action; this node commands joints: take end_effector out of '
                'the profile and choose a checkpoint that was trained on joints'
            )
        if any(arm.output.type != 'joint_trajectory' or arm.output_joints != arm.joints for arm in profile.arms):
            raise RefusedError(
                f'{profile.name} has outputs that this node does not serve: it sends joint_trajectory, gripper included'
            )
        self._latent_clock = profile.clock
        self._dt = self._latent_clock.action_ns / NANOSECONDS
        fields = ('lower', 'upper', 'velocity', 'acceleration')
        self._filter = CommandFilter(*(profile.limits(field) for field in fields), self._dt)
        self._points = self.value('window_points')
        self._moving = self._points - self._filter.stopping_steps
        if self._moving < 1:
            raise RefusedError(
                f'window_points is {self._points}, but a stop from full speed takes {self._filter.stopping_steps} '
                f'control periods on {profile.name}; set it to at least {self._filter.stopping_steps + 1}'
            )
        self._positions = np.empty((self._points + 1, len(profile.joints)))
        self._velocities = np.zeros((self._points, len(profile.joints)))
        self._at_rest = np.zeros(len(profile.joints))
        self._mask = profile.mask.tolist()
        self._index = {joint.name: i for i, joint in enumerate(profile.joints)}
        self._timeline = Timeline(self._latent_clock.action_ns)
        self._executed = ExecutedLog(4 * self._latent_clock.actions_per_latent)
        self._episode = Episode()
        self._windows, self._arm_publishers, first = [], [], 0
        for arm in profile.arms:
            self._windows.append(TrajectoryWindow(arm, first, self._points, self._latent_clock.action_ns))
            self._arm_publishers.append(self.publisher(JointTrajectory, arm.output.topic, qos.TRAJECTORY))
            first += len(arm.joints)
        self._command_publisher = self.publisher(DualArmCommand, 'command', qos.COMMAND)
        self._executed_publisher = self.publisher(ExecutedActions, 'executed_actions', qos.STREAM)
        self.subscription(JointState, profile.joint_states_topic, self._on_joint_states, qos.SENSOR)
        self.subscription(Episode, 'episode', self._on_episode, qos.LATCHED)
        self.subscription(ActionChunk, 'action_chunk', self._on_chunk, qos.CHUNK)
        self.timer(self._dt, self._tick)

    def start(self) -> None:
        """Forget the past; the first command repeats the measured state."""
        self._measured = np.full(len(self._profile.joints), np.nan)
        self._measured_ns = self.get_clock().now().nanoseconds
        self._commanding = False
        self._command = DualArmCommand(mask=self._mask)
        self._last_tick_ns: int | None = None
        self._counts = dict.fromkeys(
            ('commands', 'held', 'limited', 'late_actions', 'refused_chunks', 'overruns', 'clock_jumps'), 0
        )
        self._period_max_ns = 0
        self._problem = ''
        self._begin(Episode())

    def stop(self) -> None:
        """Send nothing more: the trajectories that were sent last end at rest."""

    def _begin(self, episode: Episode) -> None:
        self._episode = episode
        self._timeline.clear()
        self._chunk = 0
        self._frames: deque[tuple[int, int]] = deque()  # latent frames being executed: index, beginning

    def _on_joint_states(self, message: JointState) -> None:
        """Note positions; a robot may report its joints in several messages."""
        for name, position in zip(message.name, message.position, strict=False):
            if name in self._index:
                self._measured[self._index[name]] = position
        self._measured_ns = self.get_clock().now().nanoseconds

    def _on_episode(self, message: Episode) -> None:
        if message.episode != self._episode.episode:
            self._begin(message)

    def _on_chunk(self, message: ActionChunk) -> None:
        if message.episode != self._episode.episode or not self._episode.episode:
            return
        try:
            chunk = chunk_actions(message, self._profile)
        except MessageError as error:
            self._counts['refused_chunks'] += 1
            self._problem = f'{error}; the chunk is refused and the arms hold'
            self.get_logger().error(self._problem)
            return
        now = self.get_clock().now().nanoseconds
        self._counts['late_actions'] += self._timeline.splice(chunk.start_ns, chunk.actions, message.chunk, now)
        while self._frames and self._frames[-1][0] >= message.first_latent_index:
            self._frames.pop()
        for i in range(message.latent_frames):
            self._frames.append((message.first_latent_index + i, chunk.start_ns + i * self._latent_clock.latent_ns))
        self._problem = ''

    def _tick(self) -> None:
        now = self.get_clock().now().nanoseconds
        if self._last_tick_ns is not None and now < self._last_tick_ns:
            self._on_clock_jump()
        if not self._commanding:
            if not np.isfinite(self._measured).all():
                return
            self._filter.reset(self._measured)
            self._commanding = True
        self._note_period(now)
        target, limited = self._plan(now + self._latent_clock.action_ns)
        for window, publisher in zip(self._windows, self._arm_publishers, strict=True):
            publisher.publish(window.fill(self._positions[1:], self._velocities))
        self._publish_command(now, target, limited)
        self._executed.add(now + self._latent_clock.action_ns, self._positions[1].copy(), limited, target is None)
        while self._frames and self._executed.newest_ns >= self._frames[0][1] + self._latent_clock.latent_ns:
            self._publish_executed(*self._frames.popleft())

    def _on_clock_jump(self) -> None:
        """Plans of a time that will come again mean nothing: forget them and hold."""
        self._counts['clock_jumps'] += 1
        self.get_logger().warning('the clock jumped back; the timeline is cleared and the arms hold')
        self._begin(Episode())
        self._executed.clear()
        self._last_tick_ns = None

    def _note_period(self, now: int) -> None:
        if self._last_tick_ns is not None:
            period = now - self._last_tick_ns
            self._period_max_ns = max(self._period_max_ns, period)
            if period > 1.5 * self._latent_clock.action_ns:
                self._counts['overruns'] += 1
        self._last_tick_ns = now

    def _plan(self, first_ns: int) -> tuple[Target | None, bool]:
        """Plan the window into `_positions` [1:] and `_velocities`; return the first target and whether it was limited.

        The filter keeps the state after the first point; a copy looks ahead along the motion that is planned, and the
        rest of the window is the stop from there.
        """
        positions, dt_ns = self._positions, self._latent_clock.action_ns
        positions[0] = self._filter.position
        first = target = self._timeline.at(first_ns)
        ahead, limited, planned = self._filter, False, 0
        while target is not None and planned < self._moving:
            following = self._timeline.at(first_ns + (planned + 1) * dt_ns)
            velocity = self._at_rest if following is None else (following.position - target.position) / self._dt
            step_limited = ahead.step(target.position, velocity)
            if planned == 0:
                limited, ahead = step_limited, self._filter.copy()
            planned += 1
            positions[planned] = ahead.position
            target = following
        positions[planned + 1 :] = ahead.stop(self._points - planned)
        if first is None:
            self._filter.brake()
        # Central differences, so that the controller's cubic passes smoothly through the points; the last is at rest.
        np.subtract(positions[2:], positions[:-2], out=self._velocities[:-1])
        self._velocities[:-1] /= 2 * self._dt
        return first, limited

    def _publish_command(self, now: int, target: Target | None, limited: bool) -> None:
        command = self._command
        command.header.stamp = to_time(now)
        command.episode = self._episode.episode
        command.chunk = target.chunk if target else self._chunk
        command.action_index = target.index if target else DualArmCommand.HOLD
        command.values = self._profile.to_universal(self._positions[1])
        command.limited = limited
        self._command_publisher.publish(command)
        self._chunk = command.chunk
        self._counts['commands'] += 1
        self._counts['held'] += target is None
        self._counts['limited'] += limited

    def _publish_executed(self, index: int, start_ns: int) -> None:
        clock = self._latent_clock
        executed = self._executed.resample(start_ns, clock.action_ns, clock.actions_per_latent)
        message = ExecutedActions(
            episode=self._episode.episode,
            latent_index=index,
            chunk=self._chunk,
            dt=to_duration(self._latent_clock.action_ns),
            mask=self._mask,
            actions=actions_field(self._profile.to_universal(executed.actions)),
            video_stamps=[to_time(start_ns + (j + 1) * clock.video_ns) for j in range(VIDEO_FRAMES_PER_LATENT)],
            limited=executed.limited,
            held=executed.held,
        )
        message.header.stamp = to_time(start_ns)
        self._executed_publisher.publish(message)

    def update_diagnostics(self) -> None:
        """Say what is wrong, if anything, and the counters since activation."""
        age = (self.get_clock().now().nanoseconds - self._measured_ns) / NANOSECONDS
        topic = self._profile.joint_states_topic
        unknown = [name for name, i in self._index.items() if not np.isfinite(self._measured[i])]
        if age > self.value('joint_states_timeout_s'):
            lost = 'never came' if len(unknown) == len(self._index) else 'have stopped'
            level, message = ERROR, f'joint states on {topic} {lost}; is the robot running?'
        elif unknown and not self._commanding and len(unknown) < len(self._index):
            level, message = ERROR, f'{topic} lacks a position of {", ".join(unknown)}, so nothing is commanded'
        elif self._problem:
            level, message = WARN, self._problem
        else:
            level, message = OK, ''
        self.report(level, message, period_max_ms=f'{self._period_max_ns / 1e6:.2f}', **self._counts)
        self._period_max_ns = 0


def main() -> None:
    """Run the node."""
    run(ActionNode)


if __name__ == '__main__':
    main()
