"""What all experts are: a script that watches the simulation and says what the joints should do next."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np

from lingbot_va_sim.experts.motion import ArmMotion
from lingbot_va_sim.simulation import Simulation


class ExpertError(RuntimeError):
    """The expert gives up: the attempt is no demonstration."""


class Expert(ABC):
    """Solves a task from any start, differently each time, and with mistakes if it is asked for them.

    Attributes:
        MISTAKES: what can go wrong on purpose, so that the demonstration shows how to go on from there.
        ASKED_MISTAKES: others, which are made only if they are asked for.
        NOISE_RAD: deviations of the noise on the joints that a demonstration of it may have.
        arms: what the arms do, by side.
    """

    MISTAKES: ClassVar[tuple[str, ...]] = ()
    ASKED_MISTAKES: ClassVar[tuple[str, ...]] = ()
    NOISE_RAD: ClassVar[tuple[float, ...]] = (0.0, 0.006, 0.012)

    def __init__(self, simulation: Simulation, random: np.random.Generator, mistake: str | None = None) -> None:
        """Plan from the present targets of the simulation; `mistake` is one of those above."""
        self.simulation, self.random, self.mistake = simulation, random, mistake
        self.arms: dict[str, ArmMotion] = {}

    @abstractmethod
    def script(self) -> Iterator[None]:
        """Move `arms`; every `yield` lets a control period pass.

        Raises:
            ExpertError: there is no way to go on.
        """

    def run(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield target and label, joint vectors in the profile's order, for each control period to its end.

        Step the simulation between two items.
        """
        sides = [arm.side for arm in self.simulation.profile.arms]
        for _ in self.script():
            targets, labels = zip(*(self.arms[side].step() for side in sides), strict=True)
            yield np.concatenate(targets), np.concatenate(labels)

    def until_idle(self, *sides: str, unless: Callable[[], bool] | None = None) -> Iterator[None]:
        """Let time pass until these arms have nothing left to do, or `unless` holds."""
        while any(self.arms[side].busy for side in sides) and not (unless and unless()):
            yield

    @staticmethod
    def together(*scripts: Iterator[None]) -> Iterator[None]:
        """Carry out several scripts at once, until the last one is over."""
        running = list(scripts)
        while running:
            running = [script for script in running if next(script, script) is not script]
            if running:
                yield

    def vary(self, low: float, high: float) -> float:
        """Draw a number."""
        return float(self.random.uniform(low, high))
