"""A policy that drives the simulated robot until an expert takes over."""

import torch

from lingbot_va_core.checkpoint import load_model
from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_sim.closed_loop import REFUSED, ClosedLoop
from lingbot_va_sim.demonstrations import Demonstration
from lingbot_va_sim.experts.expert import ExpertError
from lingbot_va_sim.plant import SimulatedPlant
from lingbot_va_sim.rendering import CameraRig
from lingbot_va_sim.simulation import Simulation

MODE = 'fdm'  # the arms move on while chunks are predicted: what is filmed has no pauses that the model never sees
STILL_FRAMES = 16  # latent frames of time in which the arms may stand still, before and between chunks


class PolicyDriver:
    """A `Driver` for `demonstrate`: a checkpoint in the closed loop, in virtual time.

    Args:
        checkpoint: folder or Hub id.
        simulation: that the expert moves as well.
        rig: its cameras.

    Raises:
        CheckpointError, ConfigError: the checkpoint cannot drive this robot.
    """

    def __init__(self, checkpoint: str, simulation: Simulation, rig: CameraRig) -> None:
        torch.set_num_threads(1)
        self._plant = _NotedPlant(simulation, rig)
        self._loop = ClosedLoop(load_model(checkpoint, profile=simulation.profile), self._plant)

    def drive(self, demonstration: Demonstration, seed: int, latent_frames: int) -> None:
        """Drive from the start that `seed` draws, for so many latent frames; see `Driver`."""
        plant, clock = self._plant, self._plant.simulation.profile.clock
        plant.begin(seed)
        demonstration.begin(plant.simulation)
        plant.notes = demonstration
        episode = self._loop.episode(MODE, seed)
        limit_ns = (latent_frames + STILL_FRAMES) * clock.latent_ns
        try:
            for _ in episode.run(plant.simulation.task.instruction, limit_ns, latent_frames):
                pass
        except REFUSED as error:
            raise ExpertError(f'the policy failed: {error}') from error
        if plant.simulation.succeeded or len(demonstration.labels) < 2:
            raise ExpertError(f'the policy needed no help within {plant.steps * clock.action_ns / NANOSECONDS:g} s')


class _NotedPlant(SimulatedPlant):
    """A plant that notes what happens, as nothing to learn."""

    notes: Demonstration

    def step(self) -> None:
        super().step()
        command = self.simulation.targets
        self.notes.add(self.simulation, command, command, mistaken=True)
