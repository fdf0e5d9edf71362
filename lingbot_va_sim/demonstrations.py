"""One demonstration: an expert at a task, with the commands, limits and instants of the running robot.

The expert begins where the task does, or takes over from a policy that has driven for a while: then it shows how to go
on from where that policy gets to by itself (Ross et al., A Reduction of Imitation Learning and Structured Prediction to
No-Regret Online Learning, 2011; with an expert who takes over: Kelly et al., HG-DAgger, 2019).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.command_filter import CommandFilter
from lingbot_va_core.datasets.writer import EpisodeWriter
from lingbot_va_core.framing import framed
from lingbot_va_core.kinematics import joint_limits, read_kinematics
from lingbot_va_core.robot import ACTION_DIM, GRIPPERS, RobotProfile
from lingbot_va_sim.disturbances import Disturbance, draw_disturbance
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.experts.expert import Expert, ExpertError
from lingbot_va_sim.experts.noise import OrnsteinUhlenbeck
from lingbot_va_sim.kinematics import UnreachableError
from lingbot_va_sim.rendering import CameraRig, Snapshot
from lingbot_va_sim.simulation import Simulation

NOISE_CORRELATION_S = 0.3
MISTAKE_SHARE = 0.3
LONGEST_S = 14.4  # of what an expert does
DRIVEN = 'policy'  # the mistake of a driver
DRIVEN_FRAMES = (4, 34)  # latent frames after which the expert takes over, drawn from [4, 34)
TRIES = 20


@dataclass
class Demonstration:
    """What happened, in the order of the profile's joints; frame 0 is the first snapshot.

    Attributes:
        labels: what the joints should do, float64 [steps, joints]; row k is due at the end of control period k.
        executed: the commands that were sent, in the same way.
        mistaken: of each row, whether it is nothing to learn: the label is not what was commanded, because the expert
            erred on purpose, or a policy drove; or because of what is to be overcome, it has not happened yet.
        states: the measured positions at the beginning and at the end of every period, [steps + 1, joints].
        snapshots: what the cameras see, one for every video frame.
        attributes: seed, attempt, noise, mistake, and in `mistakes` the ranges [first, last) of `mistaken` steps.
    """

    labels: list[np.ndarray] = field(default_factory=list)
    executed: list[np.ndarray] = field(default_factory=list)
    mistaken: list[bool] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    attributes: dict = field(default_factory=dict)

    def begin(self, simulation: Simulation) -> None:
        """Take the start."""
        self.states.append(simulation.joint_positions.copy())
        self.snapshots.append(simulation.snapshot())

    def add(self, simulation: Simulation, command: np.ndarray, label: np.ndarray, mistaken: bool) -> None:
        """Take a control period that has just passed."""
        clock = simulation.profile.clock
        self.labels.append(label)
        self.executed.append(command)
        self.mistaken.append(mistaken)
        self.states.append(simulation.joint_positions.copy())
        if len(self.labels) % (clock.video_ns // clock.action_ns) == 0:
            self.snapshots.append(simulation.snapshot())


class Driver(Protocol):
    """Whoever moves the robot before the expert does, such as `PolicyDriver`."""

    def drive(self, demonstration: Demonstration, seed: int, latent_frames: int) -> None:
        """Begin the start that `seed` draws, move for so many latent frames, and note all as mistaken.

        Raises:
            ExpertError: nothing is left for an expert to do.
        """


def demonstrate(
    simulation: Simulation,
    expert: type[Expert],
    seed: int,
    driver: Driver | None = None,
    mistake: str | None = None,
    disturbance: str | None = None,
) -> Demonstration:
    """Return a demonstration from the start that `seed` draws: the first that succeeds, with all else drawn anew.

    With a driver the expert makes no mistakes of its own, but takes over from the driver after a drawn time. `mistake`
    stands in place of the one that is drawn, or of none. `disturbance` is one of DISTURBANCES, to be overcome.

    Raises:
        SimulationError: none succeeds.
    """
    reasons = []
    for attempt in range(TRIES):
        try:
            return _attempt(simulation, expert, seed, attempt, driver, mistake, disturbance)
        except (ExpertError, UnreachableError) as error:
            reasons.append(str(error))
    raise SimulationError(f'no demonstration from seed {seed} in {TRIES} tries; the last one: {reasons[-1]}')


def film(demonstration: Demonstration, profile: RobotProfile, rig: CameraRig, episode: EpisodeWriter) -> None:
    """Render a demonstration and write it as an episode."""
    steps = profile.clock.video_ns // profile.clock.action_ns
    images = [np.empty((camera.height, camera.width, 3), np.uint8) for camera in profile.cameras]
    rows = [universal(profile, np.stack(part)) for part in (demonstration.labels, demonstration.executed)]
    states = universal(profile, np.stack(demonstration.states[1:]))
    for frame, snapshot in enumerate(demonstration.snapshots):
        for camera, image in zip(profile.cameras, images, strict=True):
            rig.render(camera.name, snapshot, out=image)
        episode.add_frame({c.name: framed(c, image) for c, image in zip(profile.cameras, images, strict=True)})
        for step in range(frame * steps, min(frame * steps + steps, len(states))):
            episode.add_step(rows[0][step], rows[1][step], states[step])
    episode.finish(success=True, **demonstration.attributes)


def universal(profile: RobotProfile, joints: np.ndarray) -> np.ndarray:
    """Scatter joint vectors [..., joints] into universal actions, float32 [..., 30]; for robots without poses."""
    actions = np.zeros((*joints.shape[:-1], ACTION_DIM), dtype=np.float32)
    actions[..., profile.joint_channels] = joints[..., profile.acting_joints]
    return actions


def _attempt(
    simulation: Simulation,
    expert: type[Expert],
    seed: int,
    attempt: int,
    driver: Driver | None,
    asked: str | None,
    disturbance: str | None,
) -> Demonstration:
    profile, random = simulation.profile, np.random.default_rng((seed, attempt))
    dt = profile.clock.action_ns / NANOSECONDS
    command, demonstration = command_filter(profile), Demonstration()
    mistake = str(random.choice(expert.MISTAKES)) if random.random() < MISTAKE_SHARE and expert.MISTAKES else None
    mistake = asked or mistake
    sigma = float(random.choice(expert.NOISE_RAD))
    in_arm = np.array([joint.channel not in GRIPPERS.values() for joint in profile.joints])
    noise = OrnsteinUhlenbeck(sigma * in_arm, NOISE_CORRELATION_S, dt, random)
    if driver is None:
        command.reset(simulation.begin(seed))
        demonstration.begin(simulation)
    else:
        mistake = DRIVEN
        driver.drive(demonstration, seed, int(random.integers(*DRIVEN_FRAMES)))
        _come_to_rest(simulation, command, demonstration)

    script = expert(simulation, random, None if driver else mistake)
    trouble = draw_disturbance(disturbance, seed) if disturbance else None
    taken, before = len(demonstration.labels), command.position
    for target, label in _whole_latents(script.run(), profile.clock.actions_per_latent):
        wanted = target + noise.step()
        command.step(wanted, (wanted - before) / dt)
        before = wanted
        _carry_out(simulation, command.position, label, bool((label != target).any()), demonstration, trouble)
        if (len(demonstration.labels) - taken) * dt > LONGEST_S:
            raise ExpertError(f'it takes longer than {LONGEST_S:g} s')
    if not simulation.success:
        raise ExpertError('at the end the task is not solved')
    demonstration.attributes = {
        'seed': seed,
        'attempt': attempt,
        'noise_rad': sigma,
        'mistake': mistake,
        'mistakes': _ranges(demonstration.mistaken),
    } | ({'disturbance': disturbance} if disturbance else {})
    return demonstration


def _come_to_rest(simulation: Simulation, command: CommandFilter, demonstration: Demonstration) -> None:
    """Stop where the driver has brought the arms, with the period of a latent frame: nothing of that is to learn."""
    clock = simulation.profile.clock
    before, last = demonstration.executed[-2:]
    command.reset(last, (last - before) / (clock.action_ns / NANOSECONDS))
    while command.velocity.any() or len(demonstration.labels) % clock.actions_per_latent:
        command.brake()
        _carry_out(simulation, command.position, command.position, True, demonstration)


def _carry_out(
    simulation: Simulation,
    command: np.ndarray,
    label: np.ndarray,
    mistaken: bool,
    demonstration: Demonstration,
    trouble: Disturbance | None = None,
) -> None:
    simulation.set_targets(command)
    simulation.step()
    struck = trouble is not None and trouble.step(simulation)
    demonstration.add(simulation, command, label, mistaken)
    if struck:
        demonstration.mistaken = [True] * len(demonstration.mistaken)


def command_filter(profile: RobotProfile) -> CommandFilter:
    """Return the limits that the running robot puts on its commands, but for the walls of its workspaces.

    An expert that errs on purpose may come nearer to the table than a wall allows. The walls are left out so that a
    seed goes on meaning the demonstration that it has always meant.
    """
    return CommandFilter(joint_limits(profile, read_kinematics(profile)), profile.clock.action_ns / NANOSECONDS)


def _whole_latents(rows: Iterator[tuple], multiple: int) -> Iterator[tuple]:
    """Repeat the last row until their number is a multiple, so that no motion is cut off."""
    count, last = 0, None
    for count, last in enumerate(rows, start=1):  # noqa: B007
        yield last
    for _ in range(-count % multiple):
        yield last


def _ranges(flags: list[bool]) -> list[list[int]]:
    """Return [first, last) of every run of true values."""
    edges = np.flatnonzero(np.diff(np.array([False, *flags, False], dtype=np.int8)))
    return edges.reshape(-1, 2).tolist()
