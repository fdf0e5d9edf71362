"""A model that drives a simulated robot in virtual time, with what the nodes have between the two."""

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.command_planner import CommandPlanner
from lingbot_va_core.motion import ChunkError
from lingbot_va_core.pacing import Pacer
from lingbot_va_core.poses import PoseError
from lingbot_va_core.session import Session, SessionError
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_core.virtual_time import VirtualEpisode
from lingbot_va_sim.plant import SimulatedPlant

REFUSED = (SessionError, ChunkError, PoseError)  # what ends an episode: stricter than the graph, see docs/evaluation.md
LATENCY_MS = 100.0  # from the beginning of a prediction until its chunk is there
OBSERVATION_MS = 20.0  # from the newest image of a latent frame until the session knows it
LEAD_MS = 20.0  # of the graph's world_model node


class ClosedLoop:
    """A model at a plant; what can be kept from episode to episode is kept."""

    def __init__(self, model: WorldModel, plant: SimulatedPlant) -> None:
        """Connect both."""
        profile = plant.simulation.profile
        self._model, self._plant, self._planner = model, plant, CommandPlanner(profile)
        self._encoder = StreamingEncoder(model.vae, model.config.rollout, len(profile.cameras), model.device)

    def episode(self, mode: str, seed: int, latency_ms: float = LATENCY_MS) -> VirtualEpisode:
        """Return an episode to be run; `seed` draws the noise that is denoised."""
        return VirtualEpisode(
            Session(self._model, mode, seed),
            Pacer(self._planner.profile.clock, mode, round(LEAD_MS * 1e6)),
            self._planner,
            self._plant,
            self._encoder,
            round(latency_ms * 1e6),
            round(OBSERVATION_MS * 1e6),
            relative_poses=bool(self._model.config.rollout.relative_poses),
        )
