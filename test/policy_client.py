"""A client of the released policy server, and a server in a thread for it.

The client knows nothing but the wire protocol: it packs and reads messages with msgpack alone.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import torch
from websockets.sync.client import connect

from lingbot_va_core.config import ExpertConfig, ModelConfig, RolloutConfig, TextConfig, TransformerConfig, WanVAEConfig
from lingbot_va_core.initialization import initialize_transformer, initialize_vae
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.presets import ROLLOUTS
from lingbot_va_core.world_model import WorldModel, skeleton
from lingbot_va_ros.serving.policy_server import PolicyServer

PATIENCE_S = 60.0


class ServerError(RuntimeError):
    """The server answered with a text."""


class PolicyClient:
    """Speaks the protocol with one server."""

    def __init__(self, port: int, api_key: str | None = None) -> None:
        headers = {'Authorization': f'Api-Key {api_key}'} if api_key else None
        self.socket = connect(
            f'ws://127.0.0.1:{port}', compression=None, max_size=None, additional_headers=headers, proxy=None
        )
        self.metadata = msgpack.unpackb(self.socket.recv(PATIENCE_S))

    def __enter__(self) -> 'PolicyClient':
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def infer(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self.socket.send(encode(request))
        answer = self.socket.recv(PATIENCE_S)
        if isinstance(answer, str):
            raise ServerError(answer)
        return msgpack.unpackb(answer, object_hook=_array)


def encode(value: Any) -> bytes:
    """Pack a message as the released clients do."""
    return msgpack.packb(value, default=_map)


def _map(value: np.ndarray) -> dict[bytes, Any]:
    return {b'__ndarray__': True, b'data': value.tobytes(), b'dtype': value.dtype.str, b'shape': value.shape}


def _array(value: dict) -> Any:
    if b'__ndarray__' not in value:
        return value
    return np.ndarray(buffer=value[b'data'], dtype=np.dtype(value[b'dtype']), shape=value[b'shape'])


def pictures(cameras: list[str], size: tuple[int, int], count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Frames of random images by camera."""
    random = np.random.default_rng(seed)
    return [{camera: random.integers(0, 256, (*size, 3), np.uint8) for camera in cameras} for _ in range(count)]


def play(client: PolicyClient, prompt: str, size: tuple[int, int], cycles: int = 2, seed: int = 0) -> list[np.ndarray]:
    """Reset, then ask for chunks and feed back what was seen; return the actions."""
    cameras = client.metadata['cameras']
    frames = iter(pictures(cameras, size, 1 + 4 * cycles * client.metadata['action_shape'][1], seed))
    first, chunks = next(frames), []
    assert client.infer(reset=True, prompt=prompt) == {}
    for cycle in range(cycles):
        answer = client.infer(obs=first, prompt=prompt)
        assert list(answer) == ['action']
        action = answer['action']
        seen = [next(frames) for _ in range(4 * (action.shape[1] - (cycle == 0)))]
        assert client.infer(obs=seen, compute_kv_cache=True, imagine=False, state=action) == {}
        chunks.append(action)
    return chunks


@contextmanager
def serving(server: PolicyServer) -> Iterator[int]:
    """Run a server in a thread; gives its port."""
    listening, ports = threading.Event(), []
    loop, end = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with server.listening('127.0.0.1', 0) as port:
            ports.append(port)
            listening.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert listening.wait(PATIENCE_S)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(PATIENCE_S)
        loop.close()
    assert not thread.is_alive()


def released_model(name: str, **changes: Any) -> WorldModel:
    """A small random model that is run like the released one of this name, in few denoising steps."""
    chosen = ROLLOUTS[name]
    rollout = replace(chosen.rollout, **{'video_steps': 2, 'action_steps': 2, **changes})
    return small_model(rollout, chosen.channels)


def small_model(rollout: RolloutConfig, channels: tuple[int, ...]) -> WorldModel:
    """A random model of the released kind, with a text encoder that needs no weights."""
    used = tuple(channel in channels for channel in range(30))
    normalizer = ActionNormalizer(
        tuple(-0.1 - 0.01 * i for i in range(30)), tuple(0.3 + 0.02 * i for i in range(30)), used
    )
    config = ModelConfig(
        name='small',
        transformer=TransformerConfig(
            num_layers=1,
            num_heads=1,
            head_dim=12,
            video=ExpertConfig(12, 16),
            action=None,
            latent_channels=48,
            patch_size=(1, 2, 2),
            text_dim=16,
            freq_dim=16,
        ),
        vae=WanVAEConfig('wan', 4, 4, 48, (1, 1, 1, 1), 1, (False, True, True), 2, (0.1,) * 48, (0.9,) * 48),
        rollout=rollout,
        text=TextConfig('hashed', 8),
    )
    model = skeleton('small', config, normalizer, torch.device('cpu'), torch.float32)
    generator = torch.Generator().manual_seed(0)
    initialize_transformer(model.transformer.to_empty(device='cpu'), generator)
    initialize_vae(model.vae.to_empty(device='cpu'), generator)
    return model
