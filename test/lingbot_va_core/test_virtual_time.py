"""Whole episodes in virtual time: overlap, gaps, slow motion and what predictions know, from time stamps alone."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from plain_closed_loop import LATENT, configured, small_model

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.command_planner import CommandPlanner
from lingbot_va_core.pacing import Pacer
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.session import MODES, Session
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_core.virtual_time import ExecutedChunk, VirtualEpisode

MS = 1_000_000
LATENT_MS = 320
ASYNCHRONOUS = ['naive', 'fdm']


class Arms:
    """Arms that are where they are told to be; their cameras see the joint positions."""

    def __init__(self, profile: RobotProfile, solved_after: int | None = None) -> None:
        self.profile, self.solved_after = profile, solved_after
        self.position = profile.limits('home')
        self.steps = 0
        self.shots: list[int] = []  # control periods in which images were taken
        self.path = [self.position]

    @property
    def success(self) -> bool:
        return self.solved_after is not None and self.steps >= self.solved_after

    def measured(self) -> np.ndarray:
        return self.position

    def images(self) -> Sequence[np.ndarray]:
        self.shots.append(self.steps)
        return [self.position]

    def command(self, joints: np.ndarray) -> None:
        self.position = joints.copy()

    def step(self) -> None:
        self.steps += 1
        self.path.append(self.position)


class JointLatents:
    """Latents that say where the joints were in the newest image."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def reset(self) -> None:
        self.sizes = []

    def encode(self, frames: Sequence[Sequence[np.ndarray]]) -> torch.Tensor:
        self.sizes.append(len(frames))
        values = np.resize(frames[-1][0], LATENT)
        return torch.from_numpy(values).float()[None]


@pytest.fixture(scope='module')
def model(tiny: WorldModel) -> WorldModel:
    return configured(small_model(tiny), actions_per_latent=16)


@pytest.fixture(scope='module')
def planner(profile: RobotProfile) -> CommandPlanner:
    return CommandPlanner(profile)


class Run:
    """One episode and all that it left behind."""

    def __init__(
        self,
        model: WorldModel,
        planner: CommandPlanner,
        mode: str,
        latency: int | Callable[[int], int],
        frames: int | None = 17,
        late: str = 'hold',
        observation: int = 0,
        limit: int = 60_000,
        solved_after: int | None = None,
    ) -> None:
        latency_ns = latency * MS if isinstance(latency, int) else lambda chunk: latency(chunk) * MS
        self.arms, self.encoder = Arms(planner.profile, solved_after), JointLatents()
        pacer = Pacer(planner.profile.clock, mode, 20 * MS, late)
        self.episode = VirtualEpisode(
            Session(model, mode), pacer, planner, self.arms, self.encoder, latency_ns, observation * MS
        )
        self.chunks: list[ExecutedChunk] = list(self.episode.run('transfer the cube', limit * MS, frames))

    @property
    def total_ms(self) -> int:
        return self.episode.now_ns // MS

    @property
    def gaps_ms(self) -> list[int]:
        return [(b.start_ns - a.end_ns) // MS for a, b in zip(self.chunks, self.chunks[1:], strict=False)]

    @property
    def overlaps_ms(self) -> list[int]:
        """How long each chunk was being predicted while the last one was executed."""
        pairs = zip(self.chunks, self.chunks[1:], strict=False)
        return [max(0, min(b.done_ns, a.end_ns) - max(b.began_ns, a.start_ns)) // MS for a, b in pairs]


@pytest.mark.parametrize('late', ['hold', 'slow'])
@pytest.mark.parametrize('mode', ASYNCHRONOUS)
def test_with_latency_equal_to_motion_the_same_motion_takes_half_the_time(
    model: WorldModel, planner: CommandPlanner, mode: str, late: str
) -> None:
    latency = 2 * LATENT_MS
    sync, other = (Run(model, planner, which, latency, frames=33, late=late) for which in ('sync', mode))
    for run in (sync, other):
        assert [chunk.chunk.first_latent_index for chunk in run.chunks] == [1, *range(2, 34, 2)]
        assert run.chunks[-1].end_ns == run.total_ms * MS
    assert sync.overlaps_ms == [0] * 16
    assert min(other.overlaps_ms[1:]) >= latency - 20  # all of the prediction, but for the lead
    assert other.total_ms <= 0.55 * sync.total_ms


@pytest.mark.parametrize('mode', ASYNCHRONOUS)
def test_motion_has_no_gaps_while_inference_keeps_up(model: WorldModel, planner: CommandPlanner, mode: str) -> None:
    run = Run(model, planner, mode, latency=430)
    assert run.gaps_ms[0] > 0  # the first chunk has one frame, shorter than the latency
    assert run.gaps_ms[1:] == [0] * 7
    assert all(chunk.placement.margin_ns >= 20 * MS for chunk in run.chunks[2:])
    assert all(chunk.placement.speed == 1 for chunk in run.chunks)


@pytest.mark.parametrize('mode', ASYNCHRONOUS)
def test_a_prediction_begins_as_late_as_it_may_and_knows_what_was_observed(
    model: WorldModel, planner: CommandPlanner, mode: str
) -> None:
    """Chunks of four frames, 1280 ms: a prediction of 500 ms begins 760 ms after the start, when two are over."""
    run = Run(configured(model, chunk_frames=4), planner, mode, latency=500, frames=19, observation=60)
    assert run.gaps_ms == [0] * 4
    for before, chunk in zip(run.chunks[1:], run.chunks[2:], strict=False):
        assert (chunk.began_ns - before.start_ns) // MS == 760
        first = before.chunk.first_latent_index
        assert chunk.chunk.imagined_indices == (first + 2, first + 3)
        assert chunk.chunk.observation_indices[-1] == first + 1


def test_what_comes_too_late_for_one_prediction_is_real_in_the_next(model: WorldModel, planner: CommandPlanner) -> None:
    run = Run(configured(model, chunk_frames=4), planner, 'fdm', latency=500, frames=19, observation=100)
    known = [index for chunk in run.chunks for index in chunk.chunk.observation_indices]
    assert known == list(range(len(known)))
    imagined = {index for chunk in run.chunks for index in chunk.chunk.imagined_indices}
    assert imagined & set(known)


def test_slow_motion_covers_the_latency_and_recovers(model: WorldModel, planner: CommandPlanner) -> None:
    run = Run(model, planner, 'fdm', lambda chunk: 1260 if chunk < 4 else 300, frames=41, late='slow')
    speeds = [chunk.placement.speed for chunk in run.chunks]
    assert speeds[1:4] == [0.5] * 3
    assert speeds[-8:] == [1.0] * 8
    assert run.gaps_ms[1:] == [0] * (len(run.chunks) - 2)
    for chunk in run.chunks:
        motion = chunk.end_ns - chunk.start_ns
        assert motion == pytest.approx(len(chunk.chunk.actions) * LATENT_MS * MS / chunk.placement.speed, abs=MS)


def test_held_motion_keeps_its_pace_between_the_gaps(model: WorldModel, planner: CommandPlanner) -> None:
    run = Run(model, planner, 'fdm', latency=1260, frames=13)
    assert run.gaps_ms[0] > 900
    assert all(1260 - 640 - 80 <= gap <= 1260 - 640 + 80 for gap in run.gaps_ms[1:])  # to the video grid
    assert all(after.began_ns == before.done_ns for before, after in zip(run.chunks, run.chunks[1:], strict=False))
    assert {(chunk.end_ns - chunk.start_ns) // MS for chunk in run.chunks[1:]} == {640}
    assert all(chunk.placement.margin_ns < 0 for chunk in run.chunks[1:])


@pytest.mark.parametrize('mode', MODES)
def test_images_are_taken_at_the_instants_of_the_motion(model: WorldModel, planner: CommandPlanner, mode: str) -> None:
    run = Run(model, planner, mode, latency=700, frames=7)
    wanted = [0]
    for chunk in run.chunks:
        wanted += range(chunk.start_ns + 80 * MS, chunk.end_ns + 1, 80 * MS)
    assert run.arms.shots == [instant // (20 * MS) for instant in wanted]
    assert run.encoder.sizes == [1, *[4] * 7]


@pytest.mark.parametrize('mode', MODES)
def test_an_episode_is_the_same_to_the_bit_each_time(model: WorldModel, planner: CommandPlanner, mode: str) -> None:
    one, other = (Run(model, planner, mode, latency=500, observation=30) for _ in range(2))
    assert np.array_equal(one.arms.path, other.arms.path)
    assert len(one.chunks) == len(other.chunks) == 9
    for a, b in zip(one.chunks, other.chunks, strict=True):
        assert np.array_equal(a.chunk.actions, b.chunk.actions)
        assert (a.began_ns, a.start_ns, a.end_ns, a.placement) == (b.began_ns, b.start_ns, b.end_ns, b.placement)


@pytest.mark.parametrize('mode', MODES)
def test_commands_stay_within_the_limits(model: WorldModel, planner: CommandPlanner, mode: str) -> None:
    path = np.array(Run(model, planner, mode, latency=500).arms.path)
    velocity, profile = np.diff(path, axis=0) / 0.02, planner.profile
    assert np.abs(velocity).max() > 0
    assert (np.abs(velocity) <= profile.limits('velocity') * (1 + 1e-9)).all()
    assert (np.abs(np.diff(velocity, axis=0)) / 0.02 <= profile.limits('acceleration') * (1 + 1e-6)).all()


class Camera:
    """Makes camera images of `Arms`: three uint8 images whose brightness follows the first joints."""

    def __init__(self, encoder: StreamingEncoder) -> None:
        self.encoder, self.latents = encoder, []

    def reset(self) -> None:
        self.encoder.reset()

    def encode(self, frames: Sequence[Sequence[np.ndarray]]) -> torch.Tensor:
        y, x = np.mgrid[0:60, 0:80]
        images = [
            [np.stack([x, y, 127 + 100 * np.sin(joint + x)], axis=-1).astype(np.uint8) for joint in shot[0][:3]]
            for shot in frames
        ]
        self.latents.append(self.encoder.encode(images))
        return self.latents[-1]


def test_the_tiny_model_with_its_video_vae(tiny: WorldModel, planner: CommandPlanner) -> None:
    """What the episode gave to the session, given to another one by hand, leads to the same chunks."""
    encoder = Camera(StreamingEncoder(tiny.vae, tiny.config.rollout, 3))
    pacer, arms = Pacer(planner.profile.clock, 'fdm', 20 * MS), Arms(planner.profile)
    episode = VirtualEpisode(Session(tiny, 'fdm'), pacer, planner, arms, encoder, 100 * MS)
    first, second = episode.run('transfer the cube', 10_000 * MS, latent_frames=3)
    assert len(encoder.latents) == 4
    assert second.chunk.imagined_indices == (1,)
    session = Session(tiny, 'fdm')
    session.start('transfer the cube')
    session.observe(0, encoder.latents[0][0])
    assert np.array_equal(session.predict().actions, first.chunk.actions)
    assert np.array_equal(session.predict().actions, second.chunk.actions)


def test_success_ends_the_episode(model: WorldModel, planner: CommandPlanner) -> None:
    run = Run(model, planner, 'fdm', latency=200, frames=None, solved_after=100)
    assert run.episode.succeeded
    assert run.total_ms == 2000


def test_the_time_limit_ends_the_episode(model: WorldModel, planner: CommandPlanner) -> None:
    run = Run(model, planner, 'fdm', latency=200, frames=None, limit=3000)
    assert not run.episode.succeeded
    assert run.total_ms == 3000
