"""All modes are exact: whatever came late, early, twice or not yet, a chunk equals one computed from scratch."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_closed_loop import ACTION_DIM, ACTIONS, LATENT, FromScratch, Group, configured, latent, small_model

from lingbot_va_core.cache import EVICTIONS
from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.context import Context
from lingbot_va_core.flow_matching import Schedule, denoise
from lingbot_va_core.forward_dynamics import forward_dynamics, forward_dynamics_schedule
from lingbot_va_core.sequence import Stream, velocities
from lingbot_va_core.session import MODES, Chunk, Session, SessionError

INSTRUCTION = 'transfer the cube'
CLOSE = {'rtol': 1e-4, 'atol': 1e-4}


@pytest.fixture(scope='module')
def small(tiny: WorldModel) -> WorldModel:
    return small_model(tiny)


def executed(index: int) -> torch.Tensor:
    """Actions in SI units, near those of the model."""
    return 0.1 * torch.randn(ACTIONS, ACTION_DIM, generator=torch.Generator().manual_seed(900 + index))


class Twin:
    """A session, and what it must equal: it keeps every input itself and computes each chunk from scratch."""

    def __init__(self, model: WorldModel, mode: str) -> None:
        self.model, self.session, self.frames = model, Session(model, mode), model.config.rollout.chunk_frames
        self.scratch = FromScratch(model, mode, INSTRUCTION)
        self.session.start(INSTRUCTION)
        self.latents: set[int] = set()
        self.actions: set[int] = {0}
        self.groups: list[Group] = []
        self.end = self.grounded = 0
        self.kept = self.planned = torch.empty(0)
        self.generator = torch.Generator().manual_seed(3)

    def give(self, kind: str, index: int) -> None:
        if kind == 'latent':
            self.session.observe(index, latent(index))
            self.latents.add(index)
        else:
            self.session.executed(index, executed(index))
            self.actions.add(index)

    @property
    def real(self) -> int:
        index = self.grounded
        while index in self.latents and index in self.actions:
            index += 1
        return index

    def normalised(self, index: int) -> torch.Tensor:
        return self.model.normalizer.normalize(executed(index)) if index else torch.zeros(ACTIONS, ACTION_DIM)

    def predict(self) -> Chunk:
        """Predict with both; compare the chunk and the whole cache."""
        noise = (
            torch.randn(LATENT[0], self.frames, *LATENT[1:], generator=self.generator),
            torch.randn(self.frames, ACTIONS, ACTION_DIM, generator=self.generator),
            torch.randn(LATENT[0], self.frames, *LATENT[1:], generator=self.generator),
        )
        chunk = self.session.predict(*noise)
        given, stand_in, skip = None, None, 0
        if self.end == 0 and self.frames > 1:
            given, skip = latent(0), 1
        else:
            real = self.real
            for first in range(self.grounded, real, self.frames):
                span = range(first, min(first + self.frames, real))
                latents = torch.stack([latent(i) for i in span], dim=1)
                self.groups.append(Group(first, latents, torch.stack([self.normalised(i) for i in span])))
            self.grounded = real
            if real < self.end:
                own = slice(real - self.end, None)
                planned = [
                    self.normalised(i) if i in self.actions else self.planned[i - self.end]
                    for i in range(real, self.end)
                ]
                video = noise[2] if self.session.mode == 'fdm' else self.kept
                stand_in = Group(real, video[:, own], torch.stack(planned))
        first = 0 if given is not None else max(self.end, 1)
        self.kept, video, self.planned = self.scratch.chunk(self.groups, stand_in, first, noise, given)
        torch.testing.assert_close(chunk.latents, video.transpose(0, 1)[skip:], **CLOSE)
        actions = self.model.normalizer.denormalize(self.planned[skip:])
        torch.testing.assert_close(torch.from_numpy(chunk.actions), actions, **CLOSE)
        imagined = range(stand_in.first, self.end) if stand_in else range(0)
        assert chunk.imagined_indices == tuple(imagined)
        assert chunk.executed_indices == tuple(i for i in imagined if i in self.actions)
        assert chunk.first_latent_index == first + skip
        self.end = first + self.frames
        self.compare_caches()
        return chunk

    def compare_caches(self) -> None:
        cache, tokens = self.session._context.cache, self.scratch.cache.tokens
        assert cache.tokens == len(tokens)
        ours = [
            (entry.stream, entry.frame, entry.kind) for entry in cache.entries for _ in range(entry.start, entry.stop)
        ]
        assert ours == [(token.stream, token.frame, token.kind) for token in tokens]
        position = 0
        for entry in cache.entries:
            own = tokens[position : position + entry.stop - entry.start]
            position += len(own)
            for pool, part in ((cache._keys, 0), (cache._values, 1)):
                for layer in range(pool.shape[0]):
                    theirs = torch.stack([token.layers[layer][part] for token in own], dim=2)[: entry.rows]
                    torch.testing.assert_close(pool[layer, : entry.rows, :, entry.start : entry.stop], theirs, **CLOSE)


def deliver(twin: Twin, random: Random) -> None:
    """Give what the next chunk needs and some of what it does not, in any order, some of it twice."""
    needed = twin.end if twin.session.mode == 'sync' else twin.end - twin.frames
    pending = [('latent', i) for i in range(twin.grounded, max(twin.end, 1)) if i not in twin.latents]
    pending += [('executed', i) for i in range(twin.grounded, twin.end) if i not in twin.actions]
    share = random.choice([0.0, 0.5, 0.8, 1.0])
    chosen = [item for item in pending if item[1] < max(needed, 1) or random.random() < share]
    random.shuffle(chosen)
    for kind, index in chosen:
        assert not twin.session.complete
        twin.give(kind, index)
        if random.random() < 0.2:
            twin.give(kind, random.randrange(index + 1)) if index < twin.real else twin.give(kind, index)
    assert twin.session.ready
    assert twin.session.complete == (twin.real >= max(twin.end, 1))


ROLLOUTS = st.fixed_dictionaries(
    {
        'chunk_frames': st.integers(1, 4),
        'attn_window': st.sampled_from([2, 4, 5, 6, 30]),
        'cache_eviction': st.sampled_from(EVICTIONS),
        'video_guidance': st.sampled_from([1.0, 3.0]),
        'action_guidance': st.sampled_from([1.0, 2.0]),
        'video_exec_step': st.sampled_from([None, 1, 3]),
        'fdm_steps': st.sampled_from([None, 1, 3]),
        'fdm_s': st.sampled_from([None, 0.4, 1.0]),
    }
)


@pytest.mark.parametrize('mode', MODES)
@settings(max_examples=10, deadline=None)
@given(rollout=ROLLOUTS, random=st.randoms(use_true_random=False))
def test_every_chunk_and_the_cache_equal_those_from_scratch(
    small: WorldModel, mode: str, rollout: dict, random: Random
) -> None:
    twin = Twin(configured(small, **rollout), mode)
    for _ in range(5):
        deliver(twin, random)
        twin.predict()


Step = dict[str, list[int]]  # what is given before a prediction


def play(model: WorldModel, mode: str, script: list[Step], seed: int = 0) -> list[Chunk]:
    """Run a session through a script of inputs."""
    session = Session(model, mode, seed)
    session.start(INSTRUCTION)
    return play_on(session, script)


def play_on(session: Session, script: list[Step]) -> list[Chunk]:
    chunks = []
    for step in script:
        for index in step.get('executed', []):
            session.executed(index, executed(index))
        for index in step.get('latent', []):
            session.observe(index, latent(index))
        chunks.append(session.predict())
    return chunks


# Chunks of four frames: 1-3, 4-7, 8-11, ... At each prediction two frames of the chunk in execution are real, and one
# more was executed.
HALF_OBSERVED: list[Step] = [
    {'latent': [0]},
    {'latent': [1], 'executed': [1, 2]},
    {'latent': [2, 3, 4, 5], 'executed': [3, 4, 5, 6]},
    {'latent': [6, 7, 8, 9], 'executed': [7, 8, 9, 10]},
    {'latent': [10, 11, 12, 13], 'executed': [11, 12, 13, 14]},
]
COMPLETE: list[Step] = [
    {'latent': [0]},
    {'latent': [1, 2, 3], 'executed': [1, 2, 3]},
    {'latent': [4, 5, 6, 7], 'executed': [4, 5, 6, 7]},
]


@pytest.fixture(scope='module')
def four(small: WorldModel) -> WorldModel:
    return configured(small, chunk_frames=4, attn_window=6)


def same(one: Chunk, other: Chunk) -> bool:
    return np.array_equal(one.actions, other.actions) and torch.equal(one.latents, other.latents)


@pytest.mark.parametrize('mode', ['naive', 'fdm'])
def test_the_same_inputs_and_seed_give_the_same_chunks_to_the_bit(four: WorldModel, mode: str) -> None:
    chunks = play(four, mode, HALF_OBSERVED)
    assert [chunk.imagined_indices for chunk in chunks] == [(), (2, 3), (6, 7), (10, 11), (14, 15)]
    assert [chunk.executed_indices for chunk in chunks] == [(), (2,), (6,), (10,), (14,)]
    assert [chunk.observation_indices for chunk in chunks] == [
        (0,), (1,), (2, 3, 4, 5), (6, 7, 8, 9), (10, 11, 12, 13),
    ]  # fmt: skip
    assert [chunk.first_latent_index for chunk in chunks] == [1, 4, 8, 12, 16]
    for one, other in zip(chunks, play(four, mode, HALF_OBSERVED), strict=True):
        assert same(one, other)
    assert not same(chunks[1], play(four, mode, HALF_OBSERVED[:2], seed=1)[1])


def test_modes_differ_once_something_stands_in(four: WorldModel) -> None:
    naive, fdm = (play(four, mode, HALF_OBSERVED) for mode in ('naive', 'fdm'))
    assert same(naive[0], fdm[0])
    assert not any(same(*pair) for pair in zip(naive[1:], fdm[1:], strict=True))


def complete(chunks: int, frames: int) -> list[Step]:
    """Return a script in which everything is real before every prediction, of chunks of so many frames."""
    spans = [range(max(t * frames, 1), (t + 1) * frames) for t in range(chunks - 1)]
    return [{'latent': [0]}, *({'latent': list(span), 'executed': list(span)} for span in spans)]


@pytest.mark.parametrize('window', [30, 4, 6])
@pytest.mark.parametrize('frames', [2, 4])
def test_without_stand_ins_all_modes_agree(small: WorldModel, frames: int, window: int) -> None:
    """Whether or not something is evicted."""
    model = configured(small, chunk_frames=frames, attn_window=window, cache_eviction='frames')
    script = complete(6, frames)
    for sync, naive, fdm in zip(*(play(model, mode, script) for mode in MODES), strict=True):
        for other in (naive, fdm):
            torch.testing.assert_close(other.latents, sync.latents, **CLOSE)
            np.testing.assert_allclose(other.actions, sync.actions, **CLOSE)


def seen_by_video(model: WorldModel, mode: str, script: list[Step]) -> list[list[tuple[str, int]]]:
    """Play; return stream and frame of all that a chunk's first video forward finds in the cache, once a token."""
    session, seen = Session(model, mode), []
    session.start(INSTRUCTION)
    denoise_video = session._context.denoise_video

    def recorded(noise: torch.Tensor, plan: Schedule, first: int, *rest: object, **options: object) -> object:
        if options.get('keep', True):  # not in forward dynamics
            entries = session._context.cache.entries
            seen.append([(entry.stream, entry.frame) for entry in entries for _ in range(entry.start, entry.stop)])
        return denoise_video(noise, plan, first, *rest, **options)

    session._context.denoise_video = recorded
    play_on(session, script)
    return seen


def whole(model: WorldModel, frames: range) -> list[tuple[str, int]]:
    video, actions = model.config.video_tokens, model.config.rollout.actions_per_latent
    return sorted([('video', f) for f in frames] * video + [('action', f) for f in frames] * actions)


@pytest.mark.parametrize(('mode', 'eviction'), [('sync', 'frames'), ('naive', 'released'), ('fdm', 'released')])
def test_the_history_is_of_whole_frames_and_as_long_in_all_modes(small: WorldModel, mode: str, eviction: str) -> None:
    model = configured(small, attn_window=6, cache_eviction=eviction)  # chunks of 2, two of them history
    for end, seen in enumerate(seen_by_video(model, mode, complete(7, 2))):
        assert sorted(seen) == whole(model, range(max(2 * end - 4, 0), 2 * end))


@pytest.mark.parametrize('mode', ['naive', 'fdm'])
def test_what_is_evicted_does_not_depend_on_when_frames_came(small: WorldModel, mode: str) -> None:
    model = configured(small, attn_window=6)
    every: dict[int, Step] = {i: {'latent': [i], 'executed': [i] if i else []} for i in range(6)}

    def give(*frames: int) -> Step:
        return {kind: [i for f in frames for i in every[f][kind]] for kind in ('latent', 'executed')}

    scripts = [
        [give(0), give(1), give(2, 3), give(4, 5)],
        [give(0), give(), give(1, 2), give(3, 4, 5)],
        [give(0), give(), give(1), give(2, 3, 4, 5)],
        [give(0), give(1), give(2), give(3, 4, 5)],
    ]
    for script in scripts:  # the groups differ
        assert sorted(seen_by_video(model, mode, script)[-1]) == whole(model, range(2, 6))


@pytest.mark.parametrize('mode', ['naive', 'fdm'])
def test_stand_ins_evict_nothing_real(small: WorldModel, mode: str) -> None:
    model, script = configured(small, attn_window=6), complete(5, 2)
    script[4] = {}
    assert sorted(seen_by_video(model, mode, script)[-1]) == whole(model, range(2, 8))  # 6 and 7 stand in


@pytest.mark.parametrize('mode', ['naive', 'fdm'])
@pytest.mark.parametrize('eviction', EVICTIONS)
def test_late_frames_replace_what_stood_in_for_them(four: WorldModel, mode: str, eviction: str) -> None:
    model = configured(four, attn_window=4, cache_eviction=eviction)
    newest: Step = {'latent': [11, 8, 10, 9], 'executed': [8, 9, 10, 11]}
    late = [COMPLETE[0], {}, COMPLETE[1], {key: [*newest[key], *COMPLETE[2][key]] for key in newest}]
    one, other = play(model, mode, [*COMPLETE, newest]), play(model, mode, late)
    assert other[2].imagined_indices == (4, 5, 6, 7)
    assert not np.allclose(one[2].actions, other[2].actions, atol=1e-3)
    torch.testing.assert_close(other[3].latents, one[3].latents, **CLOSE)
    np.testing.assert_allclose(other[3].actions, one[3].actions, **CLOSE)


def test_late_frames_come_before_newer_stand_ins(four: WorldModel) -> None:
    newest: Step = {'latent': [9, 8], 'executed': [11, 8, 9, 10]}
    late = [*COMPLETE[:2], {}, {key: [*newest[key], *COMPLETE[2][key]] for key in newest}]
    one, other = play(four, 'fdm', [*COMPLETE, newest]), play(four, 'fdm', late)
    assert one[3].imagined_indices == other[3].imagined_indices == (10, 11)
    assert not np.allclose(one[2].actions, other[2].actions, atol=1e-3)
    torch.testing.assert_close(other[3].latents, one[3].latents, **CLOSE)
    np.testing.assert_allclose(other[3].actions, one[3].actions, **CLOSE)


def trained_dynamics(
    model: WorldModel, groups: list[int], actions: torch.Tensor, noise: torch.Tensor, plan: Schedule
) -> torch.Tensor:
    """Forward dynamics of the last group by the training form, after real frames."""
    real = sum(groups) - len(actions)
    latents = torch.stack([latent(index) for index in range(real)], dim=1)
    done = model.normalizer.normalize(torch.stack([executed(index) for index in range(1, real)]))
    actions = torch.cat([torch.zeros(1, ACTIONS, ACTION_DIM), done, actions])[None]
    text = model.transformer.text_context(model.text.encode(INSTRUCTION)[None])

    def velocity(x: torch.Tensor, sigma: float, _last: bool) -> torch.Tensor:
        noisy, clean = (torch.cat([latents, own], dim=1)[None] for own in (x, torch.zeros_like(x)))
        timesteps = torch.full((sum(groups),), 1000 * sigma)
        streams = Stream(noisy, clean, timesteps), Stream(actions, actions, timesteps)
        return velocities(model.transformer, *streams, text, groups, forward_dynamics=True)[0][0, :, real:]

    return denoise(noise, plan, velocity)


@pytest.mark.parametrize(
    'changes', [{}, {'video_exec_step': None, 'fdm_steps': 2}, {'video_shift': 5.0}, {'fdm_s': 1.0}], ids=str
)
def test_forward_dynamics_in_the_loop_is_that_of_training(
    small: WorldModel, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The groups of the context, parts of chunks, are the chunks of the training sequence."""
    model = configured(small, chunk_frames=4, attn_window=30, **changes)
    calls: list[tuple[torch.Tensor, ...]] = []

    def recorded(
        context: Context, actions: torch.Tensor, noise: torch.Tensor, plan: Schedule, first: int
    ) -> torch.Tensor:
        calls.append((actions, noise, forward_dynamics(context, actions, noise, plan, first)))
        return calls[-1][-1]

    monkeypatch.setattr('lingbot_va_core.session.forward_dynamics', recorded)
    session = Session(model, 'fdm')
    session.start(INSTRUCTION)
    kept = session._video_plan.kept
    play_on(session, HALF_OBSERVED)
    plan = forward_dynamics_schedule(model.config.rollout, kept)
    assert len(plan.sigmas) > 2
    for chunk, (actions, noise, result) in enumerate(calls):
        groups = [2, *[4] * chunk, 2]  # frames 0 and 1, then 2 to 5 and so on, then what is stood in for
        torch.testing.assert_close(result, trained_dynamics(model, groups, actions, noise, plan), **CLOSE)
    assert len(calls) == 4


@pytest.mark.parametrize('mode', ['naive', 'fdm'])
def test_a_restart_leaves_only_what_is_real(four: WorldModel, mode: str) -> None:
    session = Session(four, mode)
    session.start(INSTRUCTION)
    play_on(session, HALF_OBSERVED[:3])
    session.executed(7, executed(7))
    session.observe(7, latent(7))  # behind a gap
    session.start(INSTRUCTION)
    assert not session.ready
    again = play_on(session, HALF_OBSERVED)
    assert again[0].imagined_indices == ()
    for one, other in zip(again, play(four, mode, HALF_OBSERVED), strict=True):
        assert same(one, other)


@pytest.mark.parametrize('mode', MODES)
def test_a_recorded_run_is_replayed_to_the_bit(four: WorldModel, mode: str) -> None:
    """From the inputs in any order and from what each chunk says that it knew."""
    random = Random(5)
    session = Session(four, mode)
    session.start(INSTRUCTION)
    session.observe(0, latent(0))
    chunks, end, known = [session.predict()], 4, {'latent': {0}, 'executed': set()}
    for _ in range(4):
        least = end if mode == 'sync' else end - 4
        for kind, give, values in (
            ('executed', session.executed, executed),
            ('latent', session.observe, latent),
        ):
            for index in random.sample(range(1, end), end - 1):
                if index not in known[kind] and (index < least or random.random() < 0.5):
                    give(index, values(index))
                    known[kind].add(index)
        chunks.append(session.predict())
        end += 4
    replayed = Session(four, mode)
    replayed.start(INSTRUCTION)
    for chunk in chunks:
        for index in chunk.observation_indices:
            replayed.observe(index, latent(index))
            if index:
                replayed.executed(index, executed(index))
        for index in chunk.executed_indices:
            replayed.executed(index, executed(index))
        assert same(replayed.predict(), chunk)


def test_asynchronous_sessions_are_ready_while_the_last_chunk_is_executed(four: WorldModel) -> None:
    session = Session(four, 'fdm')
    session.start(INSTRUCTION)
    assert not session.ready
    session.observe(0, latent(0))
    session.predict()
    assert session.ready
    assert not session.complete
    session.predict()
    assert not session.ready  # of the chunk before the last one nothing is real yet
    for index in (1, 2, 3):
        with pytest.raises(
            SessionError, match=f'chunk 2 needs .* before frame 4, but latents are known before {index}'
        ):
            session.predict()
        session.observe(index, latent(index))
        assert not session.ready
        session.executed(index, executed(index))
    assert session.ready
    assert not session.complete


def test_an_observation_without_its_actions_is_not_real_yet(four: WorldModel) -> None:
    chunk = play(four, 'naive', [{'latent': [0]}, {'latent': [1, 2, 3], 'executed': [2]}])[1]
    assert chunk.observation_indices == ()
    assert chunk.imagined_indices == (1, 2, 3)
    assert chunk.executed_indices == (2,)


@pytest.mark.parametrize('mode', ['naive', 'fdm'])
def test_what_was_executed_counts_before_it_is_observed(four: WorldModel, mode: str) -> None:
    planned = play(four, mode, [{'latent': [0]}, {}])[1]
    acted = play(four, mode, [{'latent': [0]}, {'executed': [1, 2, 3]}])[1]
    assert not np.allclose(planned.actions, acted.actions, atol=1e-3)


def test_an_unknown_mode_is_refused(small: WorldModel) -> None:
    with pytest.raises(SessionError, match="mode is 'async'; choose one of sync, naive, fdm"):
        Session(small, 'async')


@pytest.mark.parametrize('mode', MODES)
def test_a_long_episode_keeps_no_old_frames(small: WorldModel, mode: str) -> None:
    session = Session(configured(small, attn_window=4), mode)
    session.start(INSTRUCTION)
    session.observe(0, latent(0))
    sizes = []
    for step in range(12):
        session.predict()
        for index in range(2 * step, 2 * step + 2):
            if index:
                session.executed(index, executed(index))
                session.observe(index, latent(index))
        history, context = session._history, session._context
        sizes.append((len(history._latents), len(history._actions), context.cache.tokens, len(context._timings)))
    assert sizes[-1] == sizes[5]
