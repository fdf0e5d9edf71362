"""A robot at its task: physics, trajectory controllers, reward and cameras, one control period at a time."""

from types import TracebackType

import mujoco
import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import RobotProfile
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.rendering import CameraRig, Snapshot
from lingbot_va_sim.simulated_robot import SimulatedRobot
from lingbot_va_sim.tasks import MAX_REWARD, Contacts, find_task, place_objects
from lingbot_va_sim.trajectory_controller import TrajectoryController

SETTLE_S = 0.2  # objects fall onto the table, arms sag; then the robot holds what is measured, as on activation


class Simulation:
    """One robot at one task. Not thread-safe; hand a `snapshot` to another thread to render there.

    The set-points of a control period are what the controllers desire at its end, held over the whole period, as
    gym-aloha holds an action. A trajectory with points on the control grid and the same targets given one by one to
    `set_targets` therefore move the robot alike, to the bit.

    Attributes:
        profile: the robot's profile.
        task: the task with its instruction.
        robot: the compiled scene and its joints.
        data: MuJoCo's state, for those who plan on it.
        controllers: the trajectory controller of each arm by its side, and those of grippers that are commanded apart
            from their arm as 'left_gripper', 'right_gripper'.
        seed: of the present start.
        time_ns: simulation time; it runs on over resets.
        reward: stage of the task that is reached now, 0 to 4.
        succeeded: whether success was ever reached since the reset.
        held: whether it is reached now and can last, see `Task.held`.
    """

    def __init__(self, profile: RobotProfile, task: str, seed: int = 0) -> None:
        """Load the scene and reset it.

        Raises:
            SimulationError: unknown task, a joint or camera that the robot lacks, or a rate that does not fit.
        """
        self.profile = profile
        self.task = find_task(task)
        self.robot = SimulatedRobot(self.task.robot, self.task.scene, profile, self.task.furnish)
        self.data = mujoco.MjData(self.robot.model)
        step_ns = round(self.robot.model.opt.timestep * NANOSECONDS)
        self._substeps, rest = divmod(profile.clock.action_ns, step_ns)
        if rest:
            raise SimulationError(
                f'the control period of {profile.clock.action_ns / 1e6:g} ms is not a whole number of physics steps '
                f'of {step_ns / 1e6:g} ms; choose a control_hz that divides {NANOSECONDS / step_ns:g}'
            )
        self._geom_names = [self.robot.model.geom(index).name for index in range(self.robot.model.ngeom)]
        self._targets = self.robot.start_positions
        self._parts: dict[str, np.ndarray] = {}  # indices of the joints that each controller moves
        self.controllers: dict[str, TrajectoryController] = {}
        index = {joint.name: i for i, joint in enumerate(profile.joints)}
        for arm in profile.arms:
            apart = [joint for joint in arm.joints if joint not in arm.output_joints]
            for name, joints in ((arm.side, arm.output_joints), (f'{arm.side}_gripper', apart)):
                if joints:
                    names = [joint.name for joint in joints]
                    self._parts[name] = part = np.array([index[joint] for joint in names])
                    self.controllers[name] = TrajectoryController(names, self._targets[part])
        self._rig: CameraRig | None = None
        self.time_ns = 0
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Put the arms into the start pose, holding, and the objects where `seed` draws them."""
        self.robot.reset(self.data)
        place_objects(self.task, self.robot.model, self.data, seed)
        mujoco.mj_forward(self.robot.model, self.data)
        self.set_targets(self.robot.start_positions)
        self.seed = seed
        self.succeeded = False
        self._judge()

    def begin(self, seed: int) -> np.ndarray:
        """Reset, let everything settle, and hold where the arms are measured then; return that, float64 [joints]."""
        periods = round(SETTLE_S * NANOSECONDS / self.profile.clock.action_ns)
        self.reset(seed)
        for _ in range(periods):
            self.step()
        held = self.joint_positions.copy()
        self.set_targets(held)
        for _ in range(periods):
            self.step()
        return held

    def set_targets(self, targets: np.ndarray) -> None:
        """Drop all trajectories and command joint positions [joints] from the next step on."""
        targets = np.asarray(targets, dtype=np.float64)
        if targets.shape != self._targets.shape or not np.isfinite(targets).all():
            raise SimulationError(f'targets must be {self._targets.size} finite numbers, not {targets.tolist()}')
        for name, joints in self._parts.items():
            self.controllers[name].hold(targets[joints])

    def step(self) -> None:
        """Advance by one control period."""
        self.time_ns += self.profile.clock.action_ns
        for name, joints in self._parts.items():
            self._targets[joints] = self.controllers[name].sample(self.time_ns)[0]
        self.robot.command(self.data, self._targets)
        mujoco.mj_step(self.robot.model, self.data, self._substeps)
        self._judge()

    @property
    def joint_positions(self) -> np.ndarray:
        """Measured positions, float64 [joints]: rad, and m of one finger."""
        return self.robot.positions(self.data)

    @property
    def joint_velocities(self) -> np.ndarray:
        """Measured velocities, float64 [joints], per second."""
        return self.robot.velocities(self.data)

    @property
    def targets(self) -> np.ndarray:
        """The set-points of the last step, float64 [joints]."""
        return self._targets.copy()

    @property
    def success(self) -> bool:
        """Whether the task is solved at this moment."""
        return self.reward == MAX_REWARD

    def snapshot(self) -> Snapshot:
        """Copy what a `CameraRig` renders."""
        return Snapshot(self.time_ns, self.data.qpos.copy())

    def camera_rig(self) -> CameraRig:
        """Create the cameras of the profile, for the calling thread."""
        return CameraRig(self.robot.model, self.profile.cameras)

    def render(self, camera: str) -> np.ndarray:
        """Render a camera of the profile now, in the thread that owns the simulation; uint8 [height, width, 3]."""
        if self._rig is None:
            self._rig = self.camera_rig()
        return self._rig.render(camera, self.snapshot())

    def close(self) -> None:
        """Free the OpenGL contexts of `render`."""
        if self._rig is not None:
            self._rig.close()
            self._rig = None

    def __enter__(self) -> 'Simulation':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _judge(self) -> None:
        contacts = Contacts(self._geom_names, self.data.contact.geom.tolist())
        self.reward = self.task.reward(contacts)
        self.succeeded = self.succeeded or self.success
        self.held = self.success and self.task.held(contacts)
