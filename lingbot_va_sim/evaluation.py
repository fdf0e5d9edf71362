"""How often a policy solves a task: episodes in virtual time, in several processes, each the same wherever it runs."""

import atexit
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from lingbot_va_core.checkpoint import WorldModel, load_model
from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.processes import in_processes
from lingbot_va_core.robot import load_profile
from lingbot_va_core.session import MODES
from lingbot_va_core.training.settings import RolloutSettings
from lingbot_va_core.virtual_time import ExecutedChunk
from lingbot_va_sim.closed_loop import LATENCY_MS, REFUSED, ClosedLoop
from lingbot_va_sim.disturbances import DISTURBANCES, draw_disturbance
from lingbot_va_sim.episode_film import Film, imagined
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.plant import SimulatedPlant
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.tasks import find_task

SEEDS = 2**32
TIME_LIMIT_S = 20.0  # two to three times what the experts take


@dataclass(frozen=True)
class Plan:
    """What is evaluated. Episode k depends on `seed` + k alone: the start, the noise that is denoised, the disturbance.

    Attributes:
        robot: a profile's name or file.
        task: of the simulation.
        checkpoint: folder or Hub id; None: an untrained model of the preset `preset`.
        modes: of the session, one after the other.
        episodes: in each mode.
        latency_ms: virtual time that a prediction takes.
        chunk: latent frames per chunk, in place of the checkpoint's; its history stays as long.
        video_s: to which s the video is denoised, 0 to 1, in place of the checkpoint's.
        disturbance: one of DISTURBANCES, or None.
        time_limit_s: of an episode, in virtual time; from its disturbance on, where there is one.
        device: of the model.
        filmed: so many episodes of each mode are filmed.
    """

    robot: str = 'aloha'
    task: str = 'transfer_cube'
    checkpoint: str | None = None
    preset: str = 'tiny'
    modes: tuple[str, ...] = ('fdm',)
    episodes: int = 50
    seed: int = 0
    latency_ms: float = LATENCY_MS
    chunk: int | None = None
    video_s: float | None = None
    disturbance: str | None = None
    time_limit_s: float = TIME_LIMIT_S
    device: str = 'cpu'
    filmed: int = 0

    def check(self) -> None:
        """Refuse what cannot be done before a process is started; raises ValueError subclasses."""
        profile = load_profile(self.robot)
        if not find_task(self.task).robot.fits(profile):
            raise SimulationError(f'{self.task} is no task of {profile.name}; choose another task or robot')
        if not 0 <= self.seed < SEEDS:
            raise SimulationError(f'seed is {self.seed}; it must be from 0 to {SEEDS - 1}')
        if not 0 < self.episodes <= SEEDS - self.seed:
            raise SimulationError(f'{self.episodes} episodes from seed {self.seed} on; give 1 to {SEEDS - self.seed}')
        if not 0 <= self.latency_ms <= 60_000:
            raise SimulationError(f'latency_ms is {self.latency_ms:g}; it must be from 0 to 60000')
        if not 0 < self.time_limit_s <= 3600:
            raise SimulationError(f'the time limit is {self.time_limit_s:g} s; it must be above 0 and at most 3600')
        if self.chunk is not None and not 1 <= self.chunk <= 64:
            raise SimulationError(f'chunk is {self.chunk}; it must be from 1 to 64 latent frames')
        if self.video_s is not None and not 0 <= self.video_s <= 1:
            raise SimulationError(f'video_s is {self.video_s:g}; it must be from 0 (noise) to 1 (clean)')
        if unknown := [mode for mode in self.modes if mode not in MODES]:
            raise SimulationError(f"mode is '{unknown[0]}'; choose one of {', '.join(MODES)}")
        if self.disturbance is not None and self.disturbance not in DISTURBANCES:
            raise SimulationError(
                f"the disturbance is '{self.disturbance}'; choose one of {', '.join(DISTURBANCES)}, or none"
            )
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise SimulationError(f"device '{self.device}' cannot be used ({reason}); choose cpu") from error


@dataclass(frozen=True)
class Episode:
    """What became of an episode; times in s of virtual time.

    Attributes:
        success: solved, and stayed so for a second, within the time limit.
        completion_s: when it was solved for good; None without success.
        duration_s: when it ended.
        stage: the highest that was reached, 0 to 4; 4 without success: not held, or not by the right hand alone.
        chunks: that were carried out.
        disturbed_s: when the disturbance happened; None: it did not.
        problem: why the session gave up, or ''.
        model: its name.
        chunk_frames: latent frames per chunk.
        wall_s: how long it took to compute.
        model_ms: how long grounding, video and actions of a chunk took to compute, the median of each.
        film: what was filmed of it.
    """

    mode: str
    index: int
    seed: int
    success: bool
    completion_s: float | None
    duration_s: float
    stage: int
    chunks: int
    disturbed_s: float | None
    problem: str
    model: str = field(compare=False, default='')
    chunk_frames: int = 0
    wall_s: float = field(compare=False, default=0.0)
    model_ms: tuple[float, float, float] | None = field(compare=False, default=None)
    film: Film | None = field(compare=False, default=None)


def evaluate(plan: Plan, workers: int) -> Iterator[Episode]:
    """Run the episodes, each on one thread, and yield them as they end, in any order; call `plan.check` before.

    Raises:
        SimulationError, CheckpointError, ConfigError: the model cannot be run so.
        RuntimeError: a process died.
    """
    wanted = [(mode, index) for mode in plan.modes for index in range(plan.episodes)]
    if workers > 1:
        yield from in_processes(_run, [(plan, *each) for each in wanted], workers)
        return
    with closing(Evaluator(plan)) as evaluator:
        yield from (evaluator.run(mode, index) for mode, index in wanted)


class Evaluator:
    """Runs any episode of a plan, in this process."""

    def __init__(self, plan: Plan) -> None:
        """Load model and scene; raises as `evaluate`."""
        torch.set_num_threads(1)
        self._plan, self._profile = plan, load_profile(plan.robot)
        model = load_model(plan.checkpoint, plan.preset, self._profile, device=plan.device)
        model = model if plan.chunk is None else with_chunk(model, plan.chunk)
        rollout = RolloutSettings(video_s=plan.video_s).apply(model.config.rollout)
        self.model = replace(model, config=replace(model.config, rollout=rollout))
        simulation = Simulation(self._profile, plan.task, plan.seed)
        self._rig = simulation.camera_rig()
        self._plant = SimulatedPlant(simulation, self._rig)
        self._loop = ClosedLoop(self.model, self._plant)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._rig.close()

    def run(self, mode: str, index: int) -> Episode:
        """Run an episode to its end."""
        plan, plant, model, seed = self._plan, self._plant, self.model, self._plan.seed + index
        began, clock = time.perf_counter(), self._profile.clock
        filmed = index < plan.filmed
        plant.begin(seed, draw_disturbance(plan.disturbance, seed) if plan.disturbance else None, filmed)
        episode = self._loop.episode(mode, seed, plan.latency_ms)
        chunks, problem = [], ''
        try:
            chunks.extend(episode.run(plant.simulation.task.instruction, self._limit_ns))
        except REFUSED as error:
            problem = str(error)
        if episode.refused:
            problem = f'a gross target was refused: {episode.refused}'
        film = None
        if filmed:
            real = [(step * clock.action_ns, image) for step, image in plant.shots]
            film = Film(real, imagined(model, plant.first, chunks))
        dt = clock.action_ns / NANOSECONDS
        solved = plant.success and not problem
        return Episode(
            mode=mode,
            index=index,
            seed=seed,
            success=solved,
            completion_s=round(plant.held_from * dt, 6) if solved else None,
            duration_s=round(plant.steps * dt, 6),
            stage=plant.stage,
            chunks=len(chunks),
            disturbed_s=None if plant.disturbed_at is None else round(plant.disturbed_at * dt, 6),
            problem=problem,
            model=model.name,
            chunk_frames=model.config.rollout.chunk_frames,
            wall_s=time.perf_counter() - began,
            model_ms=_model_ms(chunks),
            film=film,
        )

    def _limit_ns(self) -> int:
        """Return when the episode ends: a disturbance gives it its time anew."""
        disturbed_ns = (self._plant.disturbed_at or 0) * self._profile.clock.action_ns
        return disturbed_ns + round(self._plan.time_limit_s * NANOSECONDS)


def with_chunk(model: WorldModel, frames: int) -> WorldModel:
    """Return the model with other chunks, and at least as many latent frames of history before them."""
    rollout = model.config.rollout
    history = (rollout.attn_window // 2 - 1) * rollout.chunk_frames
    window = 2 * (1 - -history // frames)
    rollout = replace(rollout, chunk_frames=frames, attn_window=window)
    return replace(model, config=replace(model.config, rollout=rollout))


def _model_ms(chunks: Sequence[ExecutedChunk]) -> tuple[float, float, float] | None:
    """Return the median times of grounding, video and actions, ms."""
    if not chunks:
        return None
    times = [(each.chunk.grounding_s, each.chunk.video_s, each.chunk.action_s) for each in chunks]
    grounding, video, action = 1e3 * np.median(times, axis=0)
    return float(grounding), float(video), float(action)


_evaluators: dict[Plan, Evaluator] = {}  # of this process


def _run(job: tuple[Plan, str, int]) -> Episode:
    """Run an episode in a worker, which is set up here and not when its process starts: errors come to the caller."""
    plan, mode, index = job
    if plan not in _evaluators:
        _evaluators[plan] = Evaluator(plan)
        atexit.register(_evaluators[plan].close)
    return _evaluators[plan].run(mode, index)
