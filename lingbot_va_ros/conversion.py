"""Converts bags into a data set, in several processes; an interrupted conversion goes on where it was."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from lingbot_va_core.datasets.layout import DatasetError, DatasetSpec
from lingbot_va_core.datasets.writer import DatasetWriter
from lingbot_va_core.processes import in_processes
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.universal_states import UniversalStates
from lingbot_va_ros.bag import Bag, BagReadError, instant
from lingbot_va_ros.bag_motion import Cut, MotionReader, rgb
from lingbot_va_ros.bag_plan import BagPlan, Part, plan_bag
from lingbot_va_ros.bag_topics import find_topics


@dataclass(frozen=True)
class Source:
    """A bag: as the user named it, where it lies (a recovered one elsewhere), and the robot if not the noted one."""

    path: Path
    place: Path
    namespace: str | None
    robot: str | None
    instruction: str | None

    def open(self) -> Bag:
        """Return the bag, to be used in a `with` block."""
        return Bag(self.path, self.place, self.namespace)


class Conversion:
    """Some bags that become one data set; used in a `with` block.

    Args:
        bags: as `Bag` opens them.
        robot: a profile in place of those that the bags note.
        instruction: of episodes for which a bag has none.
        workers: processes.
        successes: leave out what nobody said to have succeeded.
        namespace: of the recorded graph, in place of those that the bags note.
        folder: where complete bags are made of what killed recorders left, until the end; None: where temporary files
            are.

    Attributes:
        parts: the episodes, in the order of the bags.
        notes: what is left out and why, a line each.
    """

    def __init__(
        self,
        bags: Sequence[Path],
        robot: str | None = None,
        instruction: str | None = None,
        workers: int = 1,
        successes: bool = False,
        namespace: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self._stack, self._successes, self._namespace, self._folder = ExitStack(), successes, namespace, folder
        self._bags, self._robot, self._instruction, self._workers = list(bags), robot, instruction, workers

    def __enter__(self) -> 'Conversion':
        """Open the bags and find their episodes.

        Raises:
            BagReadError, ProfileError: a bag cannot be read or used, the bags are of different robots, or they hold no
                episode.
        """
        try:
            self._prepare()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _prepare(self) -> None:
        self._sources, self._spec = [], None
        for path in self._bags:
            with ExitStack() as opened:
                bag = opened.enter_context(Bag(path, None, self._namespace, self._folder))
                spec = DatasetSpec.from_profile(bag.profile(self._robot))
                self._sources.append(Source(path, bag.place, self._namespace, self._robot, self._instruction))
                if bag.incomplete:  # what was made of it is there as long as it is open
                    self._stack.push(opened.pop_all())
            if self._spec not in (None, spec):
                raise BagReadError(
                    f'{path} is of the robot {spec.robot}, and {self._bags[0]} of {self._spec.robot}, or their '
                    'profiles differ in joints, cameras or rates; make a data set of each'
                )
            self._spec = spec
        plans = [plan for _, plan in sorted(self._map(_plan, list(enumerate(self._sources))), key=itemgetter(0))]
        if self._successes:
            plans = [_successful(plan) for plan in plans]
        self._jobs = [(source, part) for source, plan in zip(self._sources, plans, strict=True) for part in plan.parts]
        self.parts = [part for _, part in self._jobs]
        self.notes = [note for plan in plans for note in plan.notes]
        if not self.parts:
            raise BagReadError('; '.join(self.notes))

    def writer(self, out: Path, version: str) -> DatasetWriter:
        """Begin the data set, or go on with it; raises DatasetError."""
        recipe = {
            'bags': [str(path.resolve()) for path in self._bags],
            'episodes': [[part.span.begin_ns, part.frames, part.instruction, part.success] for part in self.parts],
        }
        return DatasetWriter(out, self._spec, recipe, version)

    def write(self, writer: DatasetWriter) -> Iterator[Part]:
        """Write the episodes that are missing, in any order, and yield each when it is on disk.

        Raises:
            BagReadError: a bag is damaged; nothing is left of the data set.
            RuntimeError: a process died. What is on disk stays, and the next call goes on with it.
        """
        done = writer.done()
        jobs = [
            (writer.root, writer.spec, writer.recipe, writer.version, index, *job)
            for index, job in enumerate(self._jobs)
            if index not in done
        ]
        try:
            yield from self._map(_write, jobs)
        except (BagReadError, DatasetError):
            writer.discard()
            raise

    def _map(self, function: Callable[[Any], Any], jobs: list) -> Iterable:
        return map(function, jobs) if min(self._workers, len(jobs)) < 2 else in_processes(function, jobs, self._workers)


def _plan(job: tuple[int, Source]) -> tuple[int, BagPlan]:
    number, source = job
    with source.open() as bag:
        return number, plan_bag(bag, bag.profile(source.robot), source.instruction)


def _successful(plan: BagPlan) -> BagPlan:
    notes = [
        f'{part.bag}: the episode at {instant(part.span.begin_ns)} '
        f'{"failed" if part.success is False else "is not said to have succeeded"}, and is left out'
        for part in plan.parts
        if not part.success
    ]
    return replace(plan, parts=[part for part in plan.parts if part.success], notes=plan.notes + notes)


def _write(job: tuple) -> Part:
    *settings, index, source, part = job
    writer = DatasetWriter(*settings)
    with source.open() as bag:
        write_part(bag, bag.profile(source.robot), part, writer, index)
    return part


def write_part(bag: Bag, profile: RobotProfile, part: Part, writer: DatasetWriter, index: int) -> None:
    """Write a part of an open bag as an episode; raises BagReadError where the bag is not what was planned."""
    topics = find_topics(bag, profile).cameras
    universal, commanded = UniversalStates(profile), UniversalStates(profile)
    stamps: list[int] = []
    with ExitStack() as stack:
        for _, row in MotionReader(bag, profile, [part.span]).read(part.start_ns):
            if isinstance(row, Cut):
                raise BagReadError(f'{bag.path}: {row.reason} at {row.instant_ns / 1e9:.3f} s')
            states = universal.convert(row.states)
            if row.first:
                episode = stack.enter_context(writer.episode(index, part.instruction, states[0]))
            else:
                actions = row.actions
                if actions is None:  # what is driven by goals has no command: its measured position stands for it
                    actions = commanded.convert(np.where(np.isfinite(row.commands), row.commands, row.states))
                for action, state in zip(actions, states, strict=True):
                    episode.add_step(action, action, state)
            episode.add_frame(
                {
                    camera.name: rgb(bag, profile, topic, number, *frame)
                    for number, (camera, topic, frame) in enumerate(
                        zip(profile.cameras, topics, row.frames, strict=True)
                    )
                }
            )
            stamps.append(row.instant_ns)
            if len(stamps) == part.frames:
                break
        if len(stamps) != part.frames:
            raise BagReadError(f'{bag.path} has changed: {len(stamps)} frames of {part.frames} are left')
        teleoperated = part.span.episode is None
        success = part.success is not False if teleoperated else bool(part.success)
        episode.finish(
            success, **part.attributes, outcome=part.success, held_images=part.held, instants_ns=stamps
        )  # fmt: skip
