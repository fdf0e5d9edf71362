"""Collects a data set of demonstrations in several processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lingbot_va_core.datasets.layout import DatasetSpec
from lingbot_va_core.datasets.writer import DatasetWriter
from lingbot_va_core.processes import in_processes
from lingbot_va_core.robot import load_profile
from lingbot_va_sim.demonstrations import demonstrate, film, universal
from lingbot_va_sim.disturbances import DISTURBANCES
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.experts import find_expert
from lingbot_va_sim.policy_driver import PolicyDriver
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.tasks import find_task

SEEDS = 2**32


@dataclass(frozen=True)
class Plan:
    """What to collect. Episode k depends on `seed` + k alone, whoever makes it.

    Attributes:
        robot: a profile's name or file.
        task: the task of the simulation.
        seed: draws the start of episode 0.
        out: the folder of the data set.
        policy: a checkpoint that drives first, so that the expert corrects what it gets wrong; None: there is none.
        mistake: what goes wrong on purpose in every episode; None: it is drawn.
        disturbance: one of DISTURBANCES, which every episode has to overcome; None: there is none.
    """

    robot: str
    task: str
    seed: int
    out: Path
    policy: str | None = None
    mistake: str | None = None
    disturbance: str | None = None

    def writer(self) -> DatasetWriter:
        """Begin the data set, or go on with it; raises DatasetError, ProfileError or SimulationError."""
        profile = load_profile(self.robot)
        find_task(self.task)
        expert = find_expert(profile.name, self.task)
        mistakes = expert.MISTAKES + expert.ASKED_MISTAKES
        if self.mistake is not None and self.mistake not in mistakes:
            raise SimulationError(
                f"'{self.mistake}' is no mistake of the expert for {self.task}; it knows {', '.join(mistakes)}"
            )
        if self.mistake is not None and self.policy is not None:
            raise SimulationError('an expert that corrects a policy makes no mistakes; leave out one of the two')
        if self.disturbance is not None and self.disturbance not in DISTURBANCES:
            raise SimulationError(f"the disturbance is '{self.disturbance}'; choose one of {', '.join(DISTURBANCES)}")
        if self.disturbance is not None and self.policy is not None:
            raise SimulationError('an expert that corrects a policy is not disturbed; leave out one of the two')
        if not 0 <= self.seed < SEEDS:
            raise SimulationError(f'seed is {self.seed}; it must be from 0 to {SEEDS - 1}')
        recipe = {'task': self.task, 'seed': self.seed}
        if self.policy is not None:
            recipe['policy'] = self.policy
        if self.mistake is not None:
            recipe['mistake'] = self.mistake
        if self.disturbance is not None:
            recipe['disturbance'] = self.disturbance
        return DatasetWriter(self.out, DatasetSpec.from_profile(profile), recipe)


@dataclass(frozen=True)
class Made:
    """An episode that was made: its index, its length in control periods, and what was noted of it."""

    index: int
    steps: int
    attributes: dict


def collect(plan: Plan, episodes: int, workers: int) -> Iterator[Made]:
    """Make the episodes that are missing, in any order, and yield each when it is on disk; then call `finish`.

    Raises:
        SimulationError: an episode cannot be made; RenderError where the cameras cannot be rendered.
        RuntimeError: a process died. What is on disk stays, and the next call goes on with it.
    """
    if not 0 < episodes <= SEEDS - plan.seed:
        raise SimulationError(f'{episodes} episodes from seed {plan.seed} on; give 1 to {SEEDS - plan.seed}')
    missing = sorted(set(range(episodes)) - plan.writer().done())
    if missing:
        yield from in_processes(_make, [(plan, index) for index in missing], workers)


class _Worker:
    """What a process keeps from episode to episode."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.writer = plan, plan.writer()
        self.simulation = Simulation(load_profile(plan.robot), plan.task, plan.seed)
        self.expert = find_expert(self.simulation.profile.name, plan.task)
        self.rig = self.simulation.camera_rig()
        self.driver = None if plan.policy is None else PolicyDriver(plan.policy, self.simulation, self.rig)

    def make(self, index: int) -> Made:
        """Make an episode and write it."""
        simulation = self.simulation
        plan = self.plan
        demonstration = demonstrate(
            simulation, self.expert, plan.seed + index, self.driver, plan.mistake, plan.disturbance
        )
        state = universal(simulation.profile, demonstration.states[0])
        with self.writer.episode(index, simulation.task.instruction, state) as episode:
            film(demonstration, simulation.profile, self.rig, episode)
        return Made(index, len(demonstration.labels), demonstration.attributes)


_workers: dict[Plan, _Worker] = {}  # of this process


def _make(job: tuple[Plan, int]) -> Made:
    """Make an episode in a worker, which is set up here and not when its process starts: errors come to the caller."""
    plan, index = job
    if plan not in _workers:
        _workers[plan] = _Worker(plan)
    return _workers[plan].make(index)
