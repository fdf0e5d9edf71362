"""The node that ticks at the control rate: action chunks in, commands within limits out."""

import time

import numpy as np
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.command_planner import WINDOW_POINTS, Command, CommandPlanner
from lingbot_va_core.description_check import description_problems
from lingbot_va_core.episode_poses import EpisodePoses
from lingbot_va_core.executed_log import ExecutedFrame
from lingbot_va_core.motion import ChunkError
from lingbot_va_core.poses import PoseError
from lingbot_va_core.robot import load_profile
from lingbot_va_msgs.msg import ActionChunk, ActionState, DualArmCommand, Episode, ExecutedActions
from lingbot_va_ros import qos, watchdogs
from lingbot_va_ros.action_messages import NotFiniteError, check_pose_frame, chunk_actions, executed_message
from lingbot_va_ros.arming import NAMES, Arming
from lingbot_va_ros.command_outputs import make_outputs
from lingbot_va_ros.conversions import MessageError, to_time
from lingbot_va_ros.gripper_goals import make_gripper_goals
from lingbot_va_ros.joint_feedback import JointFeedback
from lingbot_va_ros.managed_node import ERROR, OK, ROBOT, WARN, ManagedNode, Parameter, RefusedError, log_at, run
from lingbot_va_ros.motion_provenance import MotionProvenance
from lingbot_va_ros.operator_inputs import OperatorInputs
from lingbot_va_ros.scheduling import request_realtime
from lingbot_va_ros.tick_statistics import TickStatistics
from lingbot_va_ros.watchdogs import Verdict, Watchdogs

GIVES_WAY = 2  # control periods for which a joint must be elsewhere; a single measurement may be wrong


class ActionNode(ManagedNode):
    """Follows chunks within the limits and as far as operator and watchdogs let it; holds otherwise."""

    PARAMETERS = (
        ROBOT,
        Parameter(
            'window_points',
            WINDOW_POINTS,
            'Control periods in every trajectory that is sent: what is left after a stop from full speed is motion.',
            lower=3,
            upper=100,
        ),
        Parameter('require_enable', False, 'Motion needs the topic enable (a dead-man switch) to be true and fresh.'),
        Parameter('enable_timeout_s', 0.3, 'An enable that is older (s) counts as false.', 0.02, 10.0, live=True),
        Parameter(
            'relative_poses',
            False,
            'Poses in chunks are relative to where the task began, as the checkpoint was trained; else in base frames.',
        ),
        Parameter('realtime_priority', 50, 'SCHED_FIFO priority of this process, where permitted; 0: none.', 0, 99),
        *watchdogs.PARAMETERS,
    )

    def __init__(self) -> None:
        super().__init__('action')
        timeout_ns = round(self.value('enable_timeout_s') * NANOSECONDS)
        self._arming = Arming(self.value('require_enable'), timeout_ns)  # outlasts the lifecycle: stops stay
        self._watchdogs: Watchdogs | None = None
        self._scheduling = 'ordinary'

    def own_process(self) -> None:
        """Ask for real-time scheduling."""
        if priority := self.value('realtime_priority'):
            refusal = request_realtime(priority)
            self._scheduling = refusal or f'real-time priority {priority}'
            if refusal:
                self.get_logger().warning(refusal)

    def setup(self) -> None:
        """Read the profile and create entities."""
        self._profile = profile = load_profile(self.value('robot'))
        if problems := description_problems(profile):
            raise RefusedError('; '.join(problems))
        self._dt_ns = profile.clock.action_ns
        self._planner = CommandPlanner(profile, self.value('window_points'))
        self._poses = EpisodePoses(profile.mask) if self.value('relative_poses') else None
        self._feedback = JointFeedback(profile)
        self._watchdogs = Watchdogs(self._thresholds())
        self._outputs = make_outputs(profile, self.publisher, self.value('window_points'))
        self._grippers = make_gripper_goals(profile, self)
        self._command = DualArmCommand(mask=profile.mask.tolist())
        self._command_publisher = self.publisher(DualArmCommand, 'command', qos.COMMAND)
        self._executed_publisher = self.publisher(ExecutedActions, 'executed_actions', qos.STREAM)
        self._state_publisher = self.publisher(ActionState, 'action_state', qos.LATCHED)
        self.subscription(JointState, profile.joint_states_topic, self._on_joint_states, qos.SENSOR)
        self.subscription(Episode, 'episode', self._on_episode, qos.LATCHED)
        self.subscription(ActionChunk, 'action_chunk', self._on_chunk, qos.CHUNK)
        self.service(Trigger, '~/reset', self._on_reset)
        OperatorInputs(self, self._arming, self._publish_state)
        self.timer(profile.clock.action_ns / NANOSECONDS, self._tick)

    def start(self) -> None:
        """Forget the past, but for what is latched; the first command repeats the measured state."""
        self._feedback.clear()
        self._armed = self._holding_for_episode = False
        self._latched = False
        self._stopped_task: tuple[str, int] | None = None  # by a stop in the midst of it
        self._moved_away = 0
        self._sent_ns = 0  # steady time of the last command
        self._stats = TickStatistics()
        self._problem, self._refusal = '', ''
        self._state: tuple | None = None
        self._begin(Episode())
        self._publish_state(activating=True)

    def stop(self) -> None:
        """Brake, then send nothing more."""
        self._planner.drop()
        while self._armed and not self._planner.at_rest:
            self._send(self.get_clock().now().nanoseconds, speed=0.0)
            time.sleep(self._dt_ns / NANOSECONDS)
        for gripper in self._grippers:
            gripper.cancel()
        self._armed = False

    def change(self, values: dict[str, float]) -> None:
        """Take over thresholds and the time-out of `enable`."""
        thresholds = self._thresholds()
        thresholds |= {name: value for name, value in values.items() if name in thresholds}
        watchdogs.check_thresholds(thresholds)
        if self._watchdogs:
            self._watchdogs.thresholds = thresholds
        if timeout_s := values.get('enable_timeout_s'):
            self._arming.enable_timeout_ns = round(timeout_s * NANOSECONDS)

    def _thresholds(self) -> dict[str, float]:
        return {parameter.name: self.value(parameter.name) for parameter in watchdogs.PARAMETERS}

    # Inputs

    def _begin(self, episode: Episode) -> None:
        """Take up an episode, or none; what was planned before is dropped."""
        self._episode = episode
        self._held = False
        self._planner.drop()
        self._provenance = MotionProvenance(self.get_clock().now().nanoseconds)

    @property
    def _task(self) -> tuple[str, int]:
        """What a stop ends: the task, or the episode of a sender that knows no tasks."""
        number = self._episode.task
        return ('task', number) if number else ('episode', self._episode.episode)

    def _on_joint_states(self, message: JointState) -> None:
        self._feedback.add(message, self.get_clock().now().nanoseconds)

    def _on_episode(self, message: Episode) -> None:
        if message.episode == self._episode.episode:
            return
        self._begin(message)

    def _on_chunk(self, message: ActionChunk) -> None:
        """Add a chunk to the planned motion, or count and explain why not; never raises on what a message contains."""
        if not self._episode.episode or message.episode != self._episode.episode:
            self._stats.counts['ignored_chunks'] += 1
            return
        now = self.get_clock().now().nanoseconds
        try:
            if self._arming.latched or self._stopped_task == self._task:
                raise MessageError(f'action chunk {message.chunk} came after a stop; a new task can move the arms')
            if self._holding_for_episode:
                raise MessageError(f'action chunk {message.chunk} came before the arms were armed after a clock jump')
            if self._held:
                raise MessageError(f'action chunk {message.chunk} came after a hold; a new episode can move the arms')
            check_pose_frame(message, self._poses is not None)
            chunk = chunk_actions(message, self._profile)
            self._provenance.check(message.chunk, chunk.newest_ns, now, self.value('max_observation_age_s'))
            actions = self._absolute(chunk.actions)
            first = message.first_latent_index
            splice = self._planner.splice(first, chunk.start_ns, chunk.dt_ns, actions, message.chunk)
        except (MessageError, ChunkError, PoseError) as error:
            self._refuse_chunk(message.chunk, error)
            return
        if splice.duplicate:
            self._stats.counts['duplicate_chunks'] += 1
            return
        self._provenance.add(message.chunk, chunk.newest_ns, now)
        self._stats.counts.update(chunks=1, late_actions=splice.late, faded_actions=splice.faded)
        self._stats.margin_ms = message.margin_ms
        self._problem = ''

    def _absolute(self, actions: np.ndarray) -> np.ndarray:
        """Return action vectors with poses in the base frames; a task begins where its first chunk finds the arms."""
        if self._poses is None:
            return actions
        if not self._armed:
            raise PoseError('it is not known where the arms are, so that poses relative to there mean nothing yet')
        self._poses.anchor(self._episode.task, self._profile.to_universal(self._planner.action))
        return self._profile.from_universal(self._poses.absolute(self._profile.to_universal(actions)))

    def _refuse_chunk(self, number: int, error: Exception) -> None:
        self._stats.counts['refused_chunks'] += 1
        self._refusal = str(error) if 'chunk' in str(error) else f'action chunk {number}: {error}'
        self._problem = f'{self._refusal}; the chunk is refused'
        self.get_logger().error(self._problem, throttle_duration_sec=1.0)
        if isinstance(error, NotFiniteError):
            self._latch(f'a chunk with values that are not finite was refused: {error}')

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Clear a latched stop, once its cause is gone; the next command is where the robot is then."""
        timeout_s = self.value('joint_states_timeout_s')
        refusal = ''
        if not self.active:
            refusal = 'the action node is not active'
        elif not self._arming.latched:
            response.success, response.message = True, 'nothing was latched'
            return response
        elif self._feedback.age_ns(self.get_clock().now().nanoseconds) > timeout_s * NANOSECONDS:
            refusal = f'joint states are lost: {self._feedback.lost()}'
        elif self._armed and not self._planner.at_rest:
            refusal = 'the arms are still braking; try again'
        refusal = refusal or self._arming.clear()
        if refusal:
            self.get_logger().error(f'reset refused: {refusal}')
        else:
            self.get_logger().info('reset: the arms start again from where they are measured')
            self._armed = self._latched = False
            self._problem = ''
        response.success, response.message = not refusal, refusal or 'armed again from the measured state'
        self._publish_state()
        return response

    # The tick

    def _tick(self) -> None:
        now = self.get_clock().now().nanoseconds
        if self._stats.jumped_back(now):
            self._on_clock_jump()
        if not self._armed and not self._arm(now):
            self._publish_state()
            return
        period_ns = self._stats.tick(now)
        self._stats.counts['overruns'] += period_ns > self._watchdogs.thresholds['max_tick_period_s'] * NANOSECONDS
        self._arm_after_clock_jump(now)
        self._give_way(now)
        verdict = self._watchdogs.check(self._measure(now, period_ns))
        self._react(verdict)
        if self._arming.latched and not self._latched:
            self._on_latched()
        speed = self._arming.speed(time.monotonic_ns()) * verdict.speed
        command = self._send(now, speed)
        self._provenance.note(command, now, self._dt_ns)
        self._count(command)
        for frame in command.frames:
            self._report(frame)
        if command.gross:
            self._latch(f'a gross target was refused: {command.gross}')
        self._publish_state(speed)

    def _arm(self, now: int) -> bool:
        """Start from the measured state; return whether it is known."""
        if not self._feedback.complete or self._feedback.age_ns(now) > self._timeout_ns('joint_states_timeout_s'):
            return False
        self._planner.arm(self._feedback.positions)
        for gripper in self._grippers:
            gripper.reset()
        self._armed = True
        return True

    @property
    def _moving(self) -> bool:
        """Whether planned motion is due."""
        return self._armed and not self._planner.timeline.holding

    @property
    def _idle(self) -> bool:
        """Whether the arms rest and have not moved in this episode."""
        return self._planner.at_rest and self._planner.timeline.holding and not self._provenance.started

    def _give_way(self, now: int) -> None:
        """Let go of arms that somebody else has moved before any motion: they are where they are meant to be.

        As after a reset of a simulation. Pulling them back would be a motion that nobody asked for.
        """
        if not self._idle or self._arming.latched or self._holding_for_episode or not self._feedback.complete:
            self._moved_away = 0
            return
        error, joint = self._planner.tracking_error(self._feedback.positions)
        self._moved_away = self._moved_away + 1 if error > self._watchdogs.thresholds['tracking_error_slow'] else 0
        if self._moved_away >= GIVES_WAY and self._arm(now):
            self._moved_away = 0
            self._stats.counts['gave_way'] += 1
            self.get_logger().warning(f'{joint} was moved by {error:.3g} while at rest; its place is taken up')

    def _arm_after_clock_jump(self, now: int) -> None:
        """Start again from the measured state once an episode has come; from rest, so that nothing jerks."""
        if not self._holding_for_episode or not self._episode.episode or self._arming.latched:
            return
        if self._planner.at_rest and self._arm(now):
            self._holding_for_episode = False

    def _on_clock_jump(self) -> None:
        """Plans of a time that will come again mean nothing; nor does where the robot was before it was restarted."""
        self.get_logger().warning('the clock jumped back; the plan is forgotten and the arms hold until an episode')
        self._planner.restart()
        self._begin(Episode())
        self._feedback.clear()
        self._holding_for_episode = True

    def _measure(self, now: int, period_ns: int) -> dict[str, float]:
        """Return what the watchdogs supervise, in their units."""
        values = {
            'tick_period': period_ns / NANOSECONDS,
            'observation_age': self._provenance.age_ns(now) / NANOSECONDS,
            'starvation': self._provenance.starved_ns(now) / NANOSECONDS if self._episode.episode else 0.0,
        }
        if not self._feedback.complete:  # the clock has just jumped back
            return values
        values['joint_states_age'] = age = self._feedback.age_ns(now) / NANOSECONDS
        values['arm_skew'] = self._feedback.skew_ns() / NANOSECONDS
        known = age <= self._watchdogs.thresholds['joint_states_timeout_s']  # older: says nothing
        if known and not self._holding_for_episode and not self._arming.latched:
            error = self._planner.tracking_error(self._feedback.positions)[0]
            # Before any motion the node gives way instead.
            values['tracking_error'] = 0.0 if self._idle and self._moved_away else error
        return values

    def _react(self, verdict: Verdict) -> None:
        if verdict.fault:
            self._latch(verdict.fault)
        if verdict.hold and not self._planner.timeline.holding:
            self.get_logger().error(f'{verdict.hold}; the arms hold', throttle_duration_sec=1.0)
            self._planner.drop()
            self._held = True  # what is predicted next follows motion that never was
        self._arming.pause('watchdog', verdict.pause)

    def _latch(self, reason: str) -> None:
        if self._arming.fault(reason):
            self.get_logger().error(f'fault: {reason}')

    def _on_latched(self) -> None:
        """Stop within the limits; motion of this episode never goes on."""
        self._latched = True
        if self._episode.episode:
            self._stopped_task = self._task
        self._planner.drop()
        for gripper in self._grippers:
            gripper.cancel()

    def _send(self, now: int, speed: float) -> Command:
        steady = time.monotonic_ns()
        # What drives the arms goes on while a clock is set, but not faster than a simulation's clock.
        elapsed_ns = None if self.get_clock().ros_time_is_active else steady - self._sent_ns
        self._sent_ns = steady
        command = self._planner.step(now, speed, elapsed_ns)
        for output in self._outputs:
            output.publish(self._planner.window)
        if not self._arming.latched:
            for gripper in self._grippers:
                gripper.publish(self._planner.window)
        message = self._command
        message.header.stamp = to_time(now)
        message.episode = self._episode.episode
        message.chunk = command.chunk
        message.action_index = command.index
        message.values = self._profile.to_universal(command.action)
        message.limited = command.limits != 0
        message.limits = command.limits
        message.limited_channels = command.limited_channels.tolist()
        self._command_publisher.publish(message)
        return command

    def _report(self, frame: ExecutedFrame) -> None:
        """Publish what was executed, as the checkpoint knows it."""
        universal = self._profile.to_universal(frame.actions)
        if self._poses is not None:
            universal = self._poses.relative(universal)
        self._executed_publisher.publish(executed_message(frame, universal, self._episode.episode, self._profile))

    def _count(self, command: Command) -> None:
        held = command.index == DualArmCommand.HOLD
        counts = self._stats.counts
        counts['held'] += held
        self._stats.note_limits(command.limits)
        asynchronous = self._episode.episode and self._episode.mode != Episode.SYNC
        counts['starved_ticks'] += bool(asynchronous and self._provenance.started and self._planner.timeline.holding)
        if self._provenance.first_latency_ns is not None:
            self._stats.latency_ms.add(self._provenance.first_latency_ns / 1e6)

    # What others see

    def _publish_state(self, speed: float | None = None, activating: bool = False) -> None:
        """Publish the state if it has changed."""
        if not (self.active or activating):
            return
        steady = time.monotonic_ns()
        speed = self._arming.speed(steady) if speed is None else speed
        number, reason = self._arming.state(steady, self._moving)
        if not reason and not self._armed:
            reason = f'waits for joint states: {self._feedback.lost()}'
        state = (number, round(speed, 2), reason[:256])
        if state == self._state:
            return
        if self._state is not None and self._state[0] != number and number >= ActionState.PAUSED:
            log_at(self.get_logger(), WARN, f'{NAMES[number]}: {reason}')
        self._state = state
        message = ActionState(state=number, speed=speed, reason=state[2])
        message.header.stamp = self.get_clock().now().to_msg()
        self._state_publisher.publish(message)

    def _timeout_ns(self, parameter: str) -> int:
        return round(self.value(parameter) * NANOSECONDS)

    def update_diagnostics(self) -> None:
        """Say what is wrong, if anything; counters since activation, the watchdogs' largest values of this second."""
        now, steady = self.get_clock().now().nanoseconds, time.monotonic_ns()
        state, reason = self._arming.state(steady, self._moving)
        watched = self._watchdogs.take_problem()
        goals = next((gripper.problem for gripper in self._grippers if gripper.problem), '')
        if self._feedback.age_ns(now) > self._timeout_ns('joint_states_timeout_s'):
            level, message = ERROR, f'joint states on {self._profile.joint_states_topic}: {self._feedback.lost()}'
        elif self._arming.latched:
            level, message = ERROR, f'{NAMES[state]}: {reason}'
        elif self._problem or watched or goals:
            level, message = WARN, self._problem or watched or goals
        else:
            level, message = OK, ''
        worst = {name: f'{value:.4f}' for name, value in self._watchdogs.take_worst().items() if np.isfinite(value)}
        trips = {f'{name}_trips': count for name, count in self._watchdogs.trips.items()}
        self.report(level, message, state=NAMES[state], last_refusal=self._refusal, **self._stats.report(), **worst,
                    **trips, rejected_joint_states=self._feedback.rejected, scheduling=self._scheduling)  # fmt: skip


def main() -> None:
    """Run the node."""
    run(ActionNode)


if __name__ == '__main__':
    main()
