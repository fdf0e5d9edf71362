"""Makes the simulation look like a robot: cameras, joint states, trajectory controllers, and a reset for each try."""

import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from queue import Full, Queue
from typing import Any, ClassVar

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import ProfileError, RobotProfile, load_profile
from lingbot_va_ros.camera_feed import CameraFeed
from lingbot_va_ros.conversions import to_ns, to_time
from lingbot_va_ros.managed_node import ERROR, OK, ROBOT, WARN, ManagedNode, Parameter, RefusedError, run
from lingbot_va_ros.qos import LATCHED, SENSOR, TRAJECTORY
from lingbot_va_ros.recorded_topics import image_type
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.rendering import Snapshot
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.tasks import TASKS, default_task
from lingbot_va_sim.trajectory_controller import Trajectory, TrajectoryController, TrajectoryError

MAX_LAG_NS = 100_000_000
SEEDS = 2**32
AUTO = 'auto'
STARTED = 'start drawn from seed '  # and the seed: what a reset says
CLOCK = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


class SimBridgeNode(ManagedNode):
    """The simulated robot.

    One thread advances the physics at the control rate and publishes the joint states. Another one owns the OpenGL
    context, and renders and publishes the cameras from snapshots, so that the joint states stay regular meanwhile.
    Stamps are simulation time with `publish_clock`; else they are the system's time, on a grid of control periods from
    the activation on.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        ROBOT,
        Parameter('task', AUTO, "What the robot has to do; auto: the robot's first task.", choices=(*TASKS, AUTO)),
        Parameter('seed', 0, 'Draws the first start; every reset takes the next seed.', lower=0, upper=SEEDS - 1),
        Parameter(
            'real_time_factor',
            1.0,
            'Simulated seconds per second, at most; 0: as fast as possible. Other values than 1 need publish_clock.',
            lower=0.0,
            upper=100.0,
        ),
        Parameter(
            'publish_clock',
            False,
            'Publish /clock and stamp in simulation time; the other nodes then need use_sim_time.',
        ),
        Parameter(
            'still_cameras',
            False,
            'Show the first picture for ever: the rates and sizes of real cameras without the cost of rendering.',
        ),
    )

    def __init__(self) -> None:
        super().__init__('sim_bridge')
        name = self._task_name()
        for parameter, value, description in (
            ('chosen_task', name, 'The task that is simulated.'),
            ('instruction', TASKS[name].instruction if name else '', 'What the task asks for, in words.'),
        ):
            self.declare_parameter(parameter, value, ParameterDescriptor(description=description, read_only=True))
        self._lock = threading.Lock()  # guards the simulation, the offset of its clock, and the counts
        self._stopping = threading.Event()
        self._physics: threading.Thread | None = None
        self._cameras: threading.Thread | None = None

    def _task_name(self) -> str:
        """Return the task; '' where the profile says that there is none, which `setup` explains."""
        if self.value('task') != AUTO:
            return self.value('task')
        try:
            return default_task(load_profile(self.value('robot'))).name
        except (ProfileError, SimulationError):
            return ''

    def setup(self) -> None:
        """Load the scene, create the entities, and render once."""
        self._factor, self._sim_time = self.value('real_time_factor'), self.value('publish_clock')
        if self._factor != 1.0 and not self._sim_time:
            raise RefusedError(
                f'real_time_factor is {self._factor:g}, and other nodes can follow that only by /clock: set '
                'publish_clock here and use_sim_time there'
            )
        profile = load_profile(self.value('robot'))
        self._period_ns, self._video_ns = profile.clock.action_ns, profile.clock.video_ns
        task = self.value('chosen_task') or default_task(profile).name
        self._simulation = Simulation(profile, task, self.value('seed'))
        self._offset_ns = 0  # stamps minus simulation time
        self._counts: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._failure = ''
        self._joints = JointState(name=[joint.name for joint in profile.joints])
        self._joint_states = self.publisher(JointState, profile.joint_states_topic, SENSOR)
        self._success = self.publisher(Bool, 'task_success', LATCHED)
        self._clock_topic = self.publisher(Clock, '/clock', CLOCK) if self._sim_time else None
        self._follow_topics(profile)
        self.service(Trigger, '~/reset', self._on_reset)
        self._still = self.value('still_cameras')
        feeds = {
            camera.name: CameraFeed(
                camera,
                self.publisher(image_type(camera), camera.topic, SENSOR),
                self.publisher(CameraInfo, camera.info_topic, SENSOR),
            )
            for camera in profile.cameras
        }
        self._snapshots: Queue[tuple[int, Snapshot] | None] = Queue(maxsize=1)
        ready: Future[None] = Future()
        self._cameras = threading.Thread(target=self._film, args=(feeds, ready), name='cameras', daemon=True)
        self._cameras.start()
        ready.result()

    def start(self) -> None:
        """Set the clock and let the physics run."""
        if not self._sim_time:
            self._offset_ns = time.time_ns() - self._simulation.time_ns
        self._success.publish(Bool(data=self._simulation.succeeded))
        self._measured = (time.monotonic_ns(), self._simulation.time_ns)
        self._stopping.clear()
        self._physics = threading.Thread(target=self._run_physics, name='physics', daemon=True)
        self._physics.start()

    def stop(self) -> None:
        """Stop the physics; what was filmed so far is still published."""
        self._stopping.set()
        if self._physics:
            self._physics.join()
            self._physics = None
            self._snapshots.join()

    def teardown(self) -> None:
        """End the camera thread, which frees the OpenGL context."""
        if self._cameras:
            self._snapshots.put(None)
            self._cameras.join()
            self._cameras = None

    def update_diagnostics(self) -> None:
        """Say how fast the simulation runs, what was lost and what was rejected."""
        simulation = self._simulation
        with self._lock:
            counts, now, simulated = self._counts.copy(), time.monotonic_ns(), simulation.time_ns
            state = {'seed': simulation.seed, 'reward': simulation.reward, 'succeeded': simulation.succeeded}
        started, before = self._measured
        self._measured = now, simulated
        news, self._reported = counts - self._reported, counts
        level, message = OK, ''
        if self._failure:
            level, message = ERROR, self._failure
        elif news['clock_shifts'] or news['frames_dropped']:
            level, message = WARN, 'the machine is too slow for this simulation; see clock_shifts and frames_dropped'
        names = ('frames', 'frames_dropped', 'clock_shifts', 'clock_shift_ms', 'trajectories')
        names += tuple(f'rejected_{side}' for side in simulation.controllers)
        self.report(
            level,
            message,
            task=simulation.task.name,
            real_time_factor=f'{(simulated - before) / (now - started):.3f}',
            **state,
            **{name: counts[name] for name in names},
        )

    # Physics thread

    def _run_physics(self) -> None:
        period_ns = round(self._period_ns / self._factor) if self._factor else 0  # by the monotonic clock
        frame_ns = period_ns * (self._video_ns // self._period_ns)
        due = time.monotonic_ns() + period_ns
        try:
            while not self._stopping.wait(max(due - time.monotonic_ns(), 0) / NANOSECONDS):
                lag = time.monotonic_ns() - due
                if period_ns and lag > MAX_LAG_NS:
                    frames = max(lag // frame_ns, 1)  # whole video periods keep the stamps on their grid
                    due += frames * frame_ns
                    self._shift_clock(frames * self._video_ns)
                self._step()
                due += period_ns
        except Exception as error:  # a thread has no caller to tell
            self._fail('physics', error)

    def _shift_clock(self, shift_ns: int) -> None:
        with self._lock:
            self._counts['clock_shifts'] += 1
            self._counts['clock_shift_ms'] += shift_ns // 1_000_000
            if not self._sim_time:
                self._offset_ns += shift_ns

    def _step(self) -> None:
        simulation, snapshot = self._simulation, None
        with self._lock:
            before = simulation.succeeded
            simulation.step()
            if simulation.succeeded and not before:
                self._success.publish(Bool(data=True))  # inside the lock, so that a reset comes before or after
            stamp_ns = simulation.time_ns + self._offset_ns
            self._joints.position = array('d', simulation.joint_positions)
            self._joints.velocity = array('d', simulation.joint_velocities)
            if simulation.time_ns % self._video_ns == 0:
                snapshot = simulation.snapshot()
        stamp = to_time(stamp_ns)
        if self._clock_topic:
            self._clock_topic.publish(Clock(clock=stamp))
        self._joints.header.stamp = stamp
        self._joint_states.publish(self._joints)
        if snapshot:
            try:
                # Simulation time waits for the cameras; the system's time does not.
                self._snapshots.put((stamp_ns, snapshot), block=self._sim_time)
            except Full:
                self._count('frames_dropped')

    # Camera thread

    def _film(self, feeds: dict[str, CameraFeed], ready: Future) -> None:
        try:
            rig = self._simulation.camera_rig()
        except Exception as error:
            ready.set_exception(error)
            return
        with rig:
            try:
                first = self._simulation.snapshot()
                for name, feed in feeds.items():
                    lens = rig.intrinsics(name)
                    feed.set_intrinsics(lens.fx, lens.fy, lens.cx, lens.cy)
                    rig.render(name, first, out=feed.pixels)
                ready.set_result(None)
            except Exception as error:
                ready.set_exception(error)
                return
            while item := self._snapshots.get():
                stamp_ns, snapshot = item
                try:
                    for name, feed in feeds.items():
                        if not self._still:
                            rig.render(name, snapshot, out=feed.pixels)
                        feed.publish(to_time(stamp_ns))
                    self._count('frames')
                except Exception as error:  # a thread has no caller to tell
                    self._fail('rendering', error)
                finally:
                    self._snapshots.task_done()

    # Executor thread

    def _follow_topics(self, profile: RobotProfile) -> None:
        """Listen to what the profile says that arms and grippers are commanded with."""
        apply = {
            'joint_trajectory': (JointTrajectory, self._follow_trajectory),
            'joint_group': (Float64MultiArray, lambda controller, message: controller.set_positions(message.data)),
            'joint_state': (
                JointState,
                lambda controller, message: controller.set_positions(message.position, message.name),
            ),
        }
        for arm in profile.arms:
            for name, output in ((arm.side, arm.output), (f'{arm.side}_gripper', arm.gripper)):
                if output and output.topic and name in self._simulation.controllers:
                    kind, follow = apply[output.type]
                    self.subscription(kind, output.topic, self._follower(name, output.topic, follow), TRAJECTORY)

    def _follower(
        self, name: str, topic: str, follow: Callable[[TrajectoryController, Any], None]
    ) -> Callable[[Any], None]:
        """Return a callback that gives messages to a controller and counts those that it rejects."""
        controller = self._simulation.controllers[name]

        def on_message(message: Any) -> None:
            with self._lock:
                try:
                    follow(controller, message)
                except TrajectoryError as error:
                    self._counts[f'rejected_{name}'] += 1
                    self.get_logger().error(f'{topic}: trajectory rejected: {error}')
                else:
                    self._counts['trajectories'] += 1

        return on_message

    def _follow_trajectory(self, controller: TrajectoryController, message: JointTrajectory) -> None:
        controller.replace(trajectory(message, self._offset_ns), self._simulation.time_ns)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self.active:
            response.message = 'sim_bridge is not active'
            return response
        with self._lock:
            self._simulation.reset((self._simulation.seed + 1) % SEEDS)
            self._success.publish(Bool(data=False))
            response.success, response.message = True, f'{STARTED}{self._simulation.seed}'
        self.get_logger().info(response.message)
        return response

    # Any thread

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _fail(self, what: str, error: Exception) -> None:
        self._failure = f'{what} failed: {error}'
        self.get_logger().error(self._failure)


def trajectory(message: JointTrajectory, offset_ns: int = 0) -> Trajectory:
    """Return a message as the controller takes it; `offset_ns` is how far stamps are ahead of its clock."""
    stamp_ns, points = to_ns(message.header.stamp), message.points
    return Trajectory(
        stamp_ns=stamp_ns - offset_ns if stamp_ns else None,
        joint_names=message.joint_names,
        times_ns=[to_ns(point.time_from_start) for point in points],
        positions=[point.positions for point in points],
        velocities=[point.velocities for point in points],
        accelerations=[point.accelerations for point in points],
    )


def main() -> None:
    """Run the node."""
    run(SimBridgeNode)


if __name__ == '__main__':
    main()
