"""The simulated robot as the plant of an episode in virtual time: what `sim_bridge` is to the graph."""

import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.framing import framed
from lingbot_va_sim.disturbances import Disturbance
from lingbot_va_sim.episode_film import small
from lingbot_va_sim.rendering import CameraRig
from lingbot_va_sim.simulation import Simulation

HELD_S = 1.0


class SimulatedPlant:
    """A simulation that is advanced by one control period at a time.

    A command becomes the set-point of the period, as if its trajectory had reached the controllers at once.

    Attributes:
        simulation: of which this is the plant.
        steps: control periods since `begin`.
        stage: the highest stage that was reached.
        held_from: the period after which the task has been solved without interruption; None: it is not solved now.
        disturbed_at: the period after which the disturbance happened; None: it did not.
        first: the images that were taken first.
        shots: of the first camera, each with the period after which it was taken; kept if asked for.
    """

    def __init__(self, simulation: Simulation, rig: CameraRig) -> None:
        """Take a simulation and its cameras."""
        self.simulation, self._rig, profile = simulation, rig, simulation.profile
        self._cameras = profile.cameras
        self._held = round(HELD_S * NANOSECONDS / profile.clock.action_ns)

    def begin(self, seed: int, disturbance: Disturbance | None = None, filmed: bool = False) -> None:
        """Draw a start, let it settle, and hold where the arms are measured then."""
        self._measured = self.simulation.begin(seed)
        self._disturbance = disturbance
        self.steps = self.stage = 0
        self.held_from: int | None = None
        self.disturbed_at: int | None = None
        self.first: list[np.ndarray] = []
        self.shots: list[tuple[int, np.ndarray]] = []
        self._filmed = filmed

    @property
    def success(self) -> bool:
        """Whether the task has been solved, and stayed so for a second."""
        return self.held_from is not None and self.steps - self.held_from >= self._held

    def measured(self) -> np.ndarray:
        """Joint positions, float64 [joints], when the arms began to hold: from there on it is commands that count."""
        return self._measured

    def images(self) -> list[np.ndarray]:
        """What the cameras of the profile see now, framed as the profile says, uint8 RGB [H, W, 3] each."""
        snapshot = self.simulation.snapshot()
        images = [framed(camera, self._rig.render(camera.name, snapshot)) for camera in self._cameras]
        self.first = self.first or images
        if self._filmed:
            self.shots.append((self.steps, small(images[0])))
        return images

    def command(self, joints: np.ndarray) -> None:
        """Set the targets, float64 [joints]."""
        self.simulation.set_targets(joints)

    def step(self) -> None:
        """Advance by one control period, and disturb if it is time."""
        simulation = self.simulation
        simulation.step()
        self.steps += 1
        self.stage = max(self.stage, simulation.reward)
        if not simulation.held:
            self.held_from = None
        elif self.held_from is None:
            self.held_from = self.steps
        if self._disturbance is not None and self._disturbance.step(simulation):
            self.disturbed_at = self.steps
