"""The closed loop of one episode."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.session import Chunk, Session, SessionError


def with_rollout(model: WorldModel, **changes: object) -> WorldModel:
    return replace(model, config=replace(model.config, rollout=replace(model.config.rollout, **changes)))


def latent(index: int) -> torch.Tensor:
    return torch.randn(24, 6, 6, generator=torch.Generator().manual_seed(100 + index))


def feed(session: Session, chunk: Chunk) -> None:
    """Report the chunk as executed and real frames for it."""
    for index, actions in enumerate(chunk.actions, start=chunk.first_latent_index):
        session.observe(index, latent(index))
        session.executed(index, actions)


def run(
    model: WorldModel, chunks: int, seed: int = 0, instruction: str = 'transfer the cube', mode: str = 'sync'
) -> list[Chunk]:
    session = Session(model, mode, seed)
    session.start(instruction)
    session.observe(0, latent(0))
    results = []
    for _ in range(chunks):
        results.append(session.predict())
        feed(session, results[-1])
    return results


@pytest.fixture
def session(tiny: WorldModel) -> Session:
    session = Session(tiny)
    session.start('transfer the cube')
    return session


def test_chunks_continue_each_other(tiny: WorldModel) -> None:
    chunks = run(tiny, 5)
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3, 4]
    assert [chunk.first_latent_index for chunk in chunks] == [1, 2, 4, 6, 8]
    assert [chunk.observation_indices for chunk in chunks] == [(0,), (1,), (2, 3), (4, 5), (6, 7)]
    for chunk, frames in zip(chunks, (1, 2, 2, 2, 2), strict=True):
        assert chunk.latents.shape == (frames, 24, 6, 6)
        assert chunk.actions.shape == (frames, 16, 30)
        assert chunk.actions.dtype == np.float32
        assert np.isfinite(chunk.actions).all()
        assert min(chunk.grounding_s, chunk.video_s, chunk.action_s) >= 0
    assert chunks[1].grounding_s > 0


def test_the_same_inputs_and_seed_give_the_same_chunks(tiny: WorldModel) -> None:
    torch.manual_seed(1)
    first = run(tiny, 3)
    torch.manual_seed(2)
    for one, other in zip(first, run(tiny, 3), strict=True):
        assert np.array_equal(one.actions, other.actions)
        assert torch.equal(one.latents, other.latents)
    assert not np.array_equal(first[0].actions, run(tiny, 1, seed=1)[0].actions)


@pytest.mark.parametrize('mode', ['naive', 'fdm'])
def test_with_everything_real_the_tiny_model_does_the_same_in_all_modes(tiny: WorldModel, mode: str) -> None:
    chunks = 6  # from the fourth on something is evicted
    for ours, sync in zip(run(tiny, chunks, mode=mode), run(tiny, chunks), strict=True):
        torch.testing.assert_close(ours.latents, sync.latents, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(ours.actions, sync.actions, rtol=1e-4, atol=1e-4)


def test_a_new_episode_forgets_the_last_one(tiny: WorldModel, session: Session) -> None:
    session.observe(0, latent(7))
    feed(session, session.predict())
    session.start('transfer the cube')
    assert not session.ready
    session.observe(0, latent(0))
    assert np.array_equal(session.predict().actions, run(tiny, 1)[0].actions)


def test_untrained_actions_move_gently_around_home(tiny: WorldModel) -> None:
    actions = np.concatenate([chunk.actions for chunk in run(tiny, 4)])
    used = tiny.normalizer.used().numpy()
    assert not actions[..., ~used].any()
    normalised = tiny.normalizer.normalize(torch.from_numpy(actions))[..., used].flatten(0, 1)
    assert 0.2 < normalised.abs().mean() < 1.5
    assert normalised.std(dim=0).min() > 0.02  # no channel is stuck
    assert normalised.diff(dim=0).std() < 0.3  # no noise


def test_every_input_matters(tiny: WorldModel) -> None:
    def second_chunk(
        observed: float = 0.0, executed: float = 0.0, instruction: str = 'transfer the cube'
    ) -> np.ndarray:
        session = Session(tiny)
        session.start(instruction)
        session.observe(0, latent(0))
        chunk = session.predict()
        session.observe(1, latent(1) + observed)
        session.executed(1, chunk.actions[0] + executed)
        return session.predict().actions

    base = second_chunk()
    assert not np.allclose(base, second_chunk(observed=1.0), atol=1e-5)
    assert not np.allclose(base, second_chunk(executed=0.1), atol=1e-5)
    assert not np.allclose(base, second_chunk(instruction='stack the plates'), atol=1e-5)


def test_an_instruction_holds_from_the_next_chunk_on(tiny: WorldModel, session: Session) -> None:
    session.observe(0, latent(0))
    chunk = session.predict()
    feed(session, chunk)
    session.set_instruction('stack the plates')
    assert not np.array_equal(session.predict().actions, run(tiny, 2)[1].actions)


def test_chunks_of_one_frame_start_with_frame_one(tiny: WorldModel) -> None:
    chunks = run(with_rollout(tiny, chunk_frames=1, attn_window=12), 3)
    assert [chunk.first_latent_index for chunk in chunks] == [1, 2, 3]
    assert [chunk.observation_indices for chunk in chunks] == [(0,), (1,), (2,)]
    assert [len(chunk.actions) for chunk in chunks] == [1, 1, 1]


def test_guidance_pushes_away_from_the_empty_instruction(tiny: WorldModel) -> None:
    off, on = (run(with_rollout(tiny, action_guidance=scale), 2)[1].actions for scale in (1.0, 3.0))
    assert not np.allclose(off, on, atol=1e-4)
    # Without an instruction both rows of the batch are equal, and guidance has nothing to push along.
    off, on = (run(with_rollout(tiny, action_guidance=scale), 2, instruction='')[1].actions for scale in (1.0, 3.0))
    np.testing.assert_allclose(off, on, atol=1e-4)


def test_readiness_needs_every_frame_and_action(session: Session) -> None:
    assert not session.ready
    session.observe(0, latent(0))
    assert session.ready
    feed(session, session.predict())
    assert session.ready
    chunk = session.predict()
    assert not session.ready
    session.observe(2, latent(2))
    session.observe(3, latent(3))
    assert not session.ready
    session.executed(2, chunk.actions[0])
    with pytest.raises(SessionError, match=r'chunk 2 needs .* before frame 4, but latents are known before 4 and act'):
        session.predict()
    session.executed(3, chunk.actions[1])
    assert session.ready


def test_duplicates_are_ignored(tiny: WorldModel, session: Session) -> None:
    session.observe(0, latent(0))
    session.observe(0, latent(9))
    chunk = session.predict()
    feed(session, chunk)
    session.observe(0, latent(9))
    session.observe(1, latent(9))
    session.executed(1, chunk.actions[0] + 1)
    assert np.array_equal(session.predict().actions, run(tiny, 2)[1].actions)


def test_a_gap_holds_back_what_lies_behind_it(tiny: WorldModel, session: Session) -> None:
    session.observe(0, latent(0))
    feed(session, session.predict())
    chunk = session.predict()
    for index in (3, 2):
        assert not session.ready
        session.executed(index, chunk.actions[index - 2])
        session.observe(index, latent(index))
    assert session.ready
    assert np.array_equal(session.predict().actions, run(tiny, 3)[2].actions)


def test_frames_of_the_future_are_refused(session: Session) -> None:
    session.observe(0, latent(0))
    with pytest.raises(SessionError, match='latent frame 1: the last predicted frame is 0; predict the next chunk'):
        session.observe(1, latent(1))
    chunk = session.predict()
    with pytest.raises(SessionError, match='executed actions 2: the last predicted frame is 1'):
        session.executed(2, chunk.actions[0])


def test_wrong_shapes_and_values_are_refused(session: Session) -> None:
    with pytest.raises(SessionError, match=r'latent frame 0: shape \[24, 6, 5\]; it must be \[24, 6, 6\]'):
        session.observe(0, torch.zeros(24, 6, 5))
    with pytest.raises(SessionError, match='latent frame 0: a value is not finite'):
        session.observe(0, torch.full((24, 6, 6), torch.nan))
    session.observe(0, latent(0))
    with pytest.raises(SessionError, match=r'noise has shape \[1\]; it must be \[24, 2, 6, 6\]'):
        session.predict(video_noise=torch.zeros(1))
    session.predict()
    with pytest.raises(SessionError, match=r'executed actions 1: shape \[15, 30\]; it must be \[16, 30\]'):
        session.executed(1, np.zeros((15, 30)))


def test_inputs_are_copied(tiny: WorldModel, session: Session) -> None:
    first = latent(0)
    session.observe(0, first)
    first.zero_()
    half = latent(1).half().numpy()
    half.flags.writeable = False  # as it comes out of a message
    chunk = session.predict()
    session.observe(1, half)
    session.executed(1, chunk.actions[0])
    assert np.array_equal(chunk.actions, run(tiny, 1)[0].actions)
    assert session.ready


def test_nothing_works_before_the_start(tiny: WorldModel) -> None:
    session = Session(tiny)
    assert not session.ready
    for call in (
        lambda: session.observe(0, latent(0)),
        lambda: session.executed(1, np.zeros((16, 30))),
        session.predict,
    ):
        with pytest.raises(SessionError, match='call start first'):
            call()
