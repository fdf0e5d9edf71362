"""The closed loop against a plain one: every row computed, every past token in a list, attention from scratch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lingbot_va_core.cache import Write
from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.config import ExpertConfig
from lingbot_va_core.flow_matching import schedule
from lingbot_va_core.initialization import initialize_transformer
from lingbot_va_core.session import Session
from lingbot_va_core.transformer import WorldTransformer

CHUNKS = 6


class ListCache:
    """Single tokens with the number of their write, oldest first; it drops the oldest as the released model does."""

    def __init__(self, slots: int, layers: int) -> None:
        self.slots, self.layers = slots, layers
        self.tokens: list[tuple[Write, list[tuple[Tensor, Tensor]]]] = []
        self.evicted = 0

    @contextmanager
    def write(
        self, _stream: str, _first: int, frames: int, tokens: int, kind: Write, _rows: int
    ) -> Iterator['ListCache']:
        while len(self.tokens) + frames * tokens > self.slots:
            self.tokens.pop(0)
            self.evicted += 1
        self.fresh: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(frames * tokens)]
        yield self
        if kind is not Write.TRANSIENT:
            self.tokens += [(kind, layers) for layers in self.fresh]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        for i, token in enumerate(self.fresh):
            token.append((key[:, i], value[:, i]))
        seen = [layers[layer] for _, layers in self.tokens] + [token[layer] for token in self.fresh]
        keys, values = (torch.stack(parts, dim=2) for parts in zip(*seen, strict=True))
        return keys, values

    def drop_predicted(self) -> None:
        self.tokens = [token for token in self.tokens if token[0] is not Write.PREDICTED]


class PlainLoop:
    """The released order of a cycle, written down without regard to cost; always two rows, with and without text."""

    def __init__(self, model: WorldModel, instruction: str) -> None:
        self.model, self.rollout, self.net = model, model.config.rollout, model.transformer
        self.cache = ListCache(model.config.cache_slots, model.config.transformer.num_layers)
        texts = torch.stack([model.text.encode(text) for text in (instruction, '')])
        self.text = self.net.text_context(texts)
        self.used = model.normalizer.used()

    def forward(self, stream: str, x: Tensor, sigma: float, first: int, kind: Write, given: bool) -> Tensor:
        timesteps = torch.full((self.rollout.chunk_frames,), 1000 * sigma)
        if given:
            timesteps[0] = 0
        timing = getattr(self.net, f'{stream}_timing')(timesteps)
        forward = getattr(self.net, stream)
        return forward(x.expand(2, *x.shape), timing, first, self.text, self.cache, kind)

    def denoise(self, stream: str, noise: Tensor, first: int, start: Tensor | None) -> Tensor:
        """`start`: what frame 0 is, of the first chunk."""
        rollout, axis = self.rollout, 1 if stream == 'video' else 0
        scale = getattr(rollout, f'{stream}_guidance')
        plan = schedule(rollout.action_steps, rollout.action_shift)
        if stream == 'video':
            plan = schedule(rollout.video_steps, rollout.video_shift, rollout.video_exec_step, rollout.video_s)
        x = noise.clone()

        def clamp() -> None:
            if stream == 'action':
                x[..., ~self.used] = 0
            if start is not None:
                x.narrow(axis, 0, 1).copy_(start.unsqueeze(axis))

        for i, sigma in enumerate(plan.sigmas[:-1]):
            clamp()
            kept = plan.partial and i == len(plan.sigmas) - 2
            kind = Write.PREDICTED if kept else Write.TRANSIENT
            conditional, unconditional = self.forward(stream, x, sigma, first, kind, start is not None)
            velocity = unconditional + scale * (conditional - unconditional)
            x += velocity * (plan.sigmas[i + 1] - sigma)
        clamp()
        if not plan.partial:
            self.forward(stream, x, 0.0, first, Write.PREDICTED, start is not None)
        return x

    def chunk(
        self, first: int, noise: tuple[Tensor, Tensor], real: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Take the real video and actions of the last chunk and predict; without them, the first chunk."""
        video = action = None
        if real is None:
            video, action = latent(0), torch.zeros(self.rollout.actions_per_latent, 30)
        else:
            self.cache.drop_predicted()
            for stream, clean in zip(('video', 'action'), real, strict=True):
                self.forward(stream, clean, 0.0, first - self.rollout.chunk_frames, Write.CLEAN, False)
        return self.denoise('video', noise[0], first, video), self.denoise('action', noise[1], first, action)


def latent(index: int) -> torch.Tensor:
    return torch.randn(24, 6, 6, generator=torch.Generator().manual_seed(100 + index))


@pytest.fixture(scope='module')
def small(tiny: WorldModel) -> WorldModel:
    """A smaller transformer without weights so small that a mistake would not show."""
    config = replace(
        tiny.config.transformer, num_layers=2, head_dim=12, video=ExpertConfig(36, 48), action=ExpertConfig(24, 32)
    )
    transformer = WorldTransformer(config)
    initialize_transformer(transformer, torch.Generator().manual_seed(1))
    for parameter in transformer.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    return replace(tiny, transformer=transformer.requires_grad_(False), config=replace(tiny.config, transformer=config))


def configure(model: WorldModel, **changes: object) -> WorldModel:
    return replace(model, config=replace(model.config, rollout=replace(model.config.rollout, **changes)))


FULL = {'video_steps': 3, 'video_exec_step': None, 'video_shift': 5.0}
SETTINGS = {
    'no guidance, partial': {'attn_window': 4},
    'guided video, full': {'attn_window': 4, 'video_guidance': 5.0, **FULL},
    'guided video, partial': {'attn_window': 6, 'video_guidance': 5.0},
    'guided actions, full': {'attn_window': 4, 'action_guidance': 3.0, **FULL},
    'guided actions, partial': {'attn_window': 5, 'action_guidance': 3.0},
    'both guided, to an s off the grid': {
        'attn_window': 4,
        'video_guidance': 2.0,
        'action_guidance': 3.0,
        **FULL,
        'video_s': 0.5,
    },
    'three frames per chunk': {'attn_window': 4, 'chunk_frames': 3, 'video_guidance': 5.0, **FULL},
    'only the own chunk': {'attn_window': 2, 'video_guidance': 5.0, **FULL},
    'nothing evicted': {'attn_window': 40, 'video_guidance': 5.0, **FULL},
}


@pytest.mark.parametrize('changes', SETTINGS.values(), ids=SETTINGS)
def test_the_session_equals_the_plain_loop(small: WorldModel, changes: dict) -> None:
    model = configure(small, cache_eviction='released', action_steps=3, **changes)
    frames, instruction = model.config.rollout.chunk_frames, 'transfer the cube'
    session, plain = Session(model), PlainLoop(model, instruction)
    session.start(instruction)
    session.observe(0, latent(0))
    generator = torch.Generator().manual_seed(5)
    real = None
    for step in range(CHUNKS):
        first = step * frames
        noise = (
            torch.randn(24, frames, 6, 6, generator=generator),
            torch.randn(frames, 16, 30, generator=generator),
        )
        chunk = session.predict(*noise)
        video, action = plain.chunk(first, noise, real)
        given = 1 if step == 0 else 0
        torch.testing.assert_close(chunk.latents, video.transpose(0, 1)[given:], rtol=1e-4, atol=1e-4)
        actions = model.normalizer.denormalize(action[given:])
        torch.testing.assert_close(torch.from_numpy(chunk.actions), actions, rtol=1e-4, atol=1e-4)

        executed = [torch.zeros(16, 30)] * given
        for index, row in enumerate(chunk.actions, start=chunk.first_latent_index):
            session.observe(index, latent(index))
            session.executed(index, row)
            executed.append(model.normalizer.normalize(torch.from_numpy(row)))
        real = torch.stack([latent(first + i) for i in range(frames)], dim=1), torch.stack(executed)
    assert (plain.cache.evicted > 0) == (changes['attn_window'] < 40)


def rows(model: WorldModel) -> list[tuple[str, Write, int]]:
    """Stream, kind and rows of every forward of the second chunk."""
    session = Session(model)
    session.start('transfer the cube')
    session.observe(0, latent(0))
    chunk = session.predict()
    session.observe(1, latent(1))
    session.executed(1, chunk.actions[0])
    seen, write = [], session._context.cache.write

    def recorded(stream: str, first: int, frames: int, tokens: int, kind: Write, rows: int) -> object:
        seen.append((stream, kind, rows))
        return write(stream, first, frames, tokens, kind, rows)

    session._context.cache.write = recorded
    session.predict()
    return seen


def test_the_instruction_is_embedded_once(small: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, text_context = [], WorldTransformer.text_context
    monkeypatch.setattr(
        WorldTransformer, 'text_context', lambda self, x: calls.append(x.shape[0]) or text_context(self, x)
    )
    rows(configure(small, video_guidance=5.0))
    assert calls == [2]  # one call, with and without the instruction, for two chunks


def test_only_what_is_read_is_computed(small: WorldModel) -> None:
    steps = {**FULL, 'action_steps': 3}
    video, action = ('video', Write.TRANSIENT), ('action', Write.TRANSIENT)
    written, kept = [('video', Write.CLEAN), ('action', Write.CLEAN)], ('video', Write.PREDICTED)
    expected = {
        (1.0, 1.0): [*((*w, 1) for w in written), *[(*video, 1)] * 3, (*kept, 1), *[(*action, 1)] * 3],
        (5.0, 1.0): [*((*w, 2) for w in written), *[(*video, 2)] * 3, (*kept, 1), *[(*action, 1)] * 3],
        (1.0, 3.0): [*((*w, 2) for w in written), *[(*video, 1)] * 3, (*kept, 2), *[(*action, 2)] * 3],
    }
    for (video_scale, action_scale), forwards in expected.items():
        model = configure(small, video_guidance=video_scale, action_guidance=action_scale, **steps)
        assert rows(model) == forwards
