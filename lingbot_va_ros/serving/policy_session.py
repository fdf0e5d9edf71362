"""One client's episode: requests of the released protocol in, answers out.

- {reset: true, prompt} begins an episode; {} comes back.
- {obs, prompt} asks for a chunk of actions; {action: float32 [used, K, n]} comes back. `obs` is the first frame of the
  episode, a map of uint8 images [H, W, 3] by camera; later ones are not looked at.
- {obs: [frames], compute_kv_cache: true, state} feeds back what was seen while the chunk was executed, four frames for
  each latent frame, and the actions as they came; {} comes back.

Of the first chunk, latent frame 0 is the first frame itself: its actions are not to be executed, and nothing is fed
back for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lingbot_va_core import __version__
from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.robot import ACTION_DIM
from lingbot_va_core.session import Session
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_core.world_model import WorldModel

LONGEST_PROMPT = 4096  # characters; the text encoders read at most 512 tokens
LARGEST_SIDE = 4096  # pixels


class RequestError(ValueError):
    """A request that cannot be answered."""


@dataclass(frozen=True)
class Policy:
    """A model, and how clients name its inputs and outputs.

    Attributes:
        cameras: keys of the images, in the order of the canvas; in tshape the head camera first.
        channels: of the universal action, in the order of the rows of `action` and `state`.
    """

    model: WorldModel
    cameras: tuple[str, ...]
    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        name, rollout = self.model.name, self.model.config.rollout
        if len(self.cameras) != rollout.cameras:
            raise RequestError(f"model '{name}' has {rollout.cameras} cameras; {len(self.cameras)} names were given")
        used = self.model.normalizer.used().nonzero().flatten().tolist()
        if sorted(self.channels) != used:
            raise RequestError(
                f"model '{name}' uses the action channels {used}, not {sorted(self.channels)}; choose the rollout or "
                'robot that it was trained for'
            )

    @property
    def action_shape(self) -> tuple[int, int, int]:
        """(used channels, latent frames of a chunk, actions of a latent frame)."""
        rollout = self.model.config.rollout
        return len(self.channels), rollout.chunk_frames, rollout.actions_per_latent

    def metadata(self) -> dict[str, Any]:
        """Return what a client is told when it connects."""
        rollout = self.model.config.rollout
        return {
            'server': f'lingbot_va {__version__}',
            'model': self.model.name,
            'cameras': list(self.cameras),
            'image_size': [rollout.height, rollout.width],
            'action_channels': list(self.channels),
            'action_shape': list(self.action_shape),
            'relative_poses': rollout.relative_poses,
            'key_frames_per_latent_frame': VIDEO_FRAMES_PER_LATENT,
        }


class PolicySession:
    """Answers the requests of one client; shares nothing with other sessions but the weights.

    It owns no thread, and must not be used by two at once. After an exception it is not to be used any more.
    Memory for the context is taken by the first reset and kept until the session is dropped.

    Args:
        policy: what is served.
        seed: of the noise; each reset begins it anew, so that an episode can be repeated.
    """

    def __init__(self, policy: Policy, seed: int = 0) -> None:
        self._policy, self._seed = policy, seed
        self._session: Session | None = None

    def answer(self, request: Any) -> dict[str, Any]:
        """Answer one request.

        Raises:
            RequestError, SessionError, CanvasError, TextError: it is malformed, or does not follow from the last one.
            RuntimeError: memory is short, or the model predicted values that are not finite.
        """
        if not isinstance(request, dict):
            raise RequestError(f'the request is {type(request).__name__}; it must be a map')
        if _flag(request, 'reset'):
            self._reset(_prompt(request))
        elif self._session is None:
            raise RequestError('no episode is running; send {reset: true, prompt: TEXT} first')
        elif _flag(request, 'compute_kv_cache'):
            self._feed_back(request)
        else:
            return {'action': self._infer(request)}
        return {}

    def _reset(self, prompt: str) -> None:
        if self._session is None:
            model = self._policy.model
            self._encoder = StreamingEncoder(model.vae, model.config.rollout, device=model.device)
            self._session = Session(model, 'sync', self._seed)
        self._session.start(prompt)
        self._encoder.reset()
        self._prompt = prompt
        self._end = 0  # one past the last latent frame that was predicted or given
        self._awaited: range | None = None  # latent frames of the last chunk that are to be fed back

    def _infer(self, request: dict) -> np.ndarray:
        if self._awaited is not None:
            raise RequestError(
                'the last chunk was not fed back; send {obs: [key frames], compute_kv_cache: true, state: action} '
                'before the next one is asked for'
            )
        if request.get('prompt') is not None and (prompt := _prompt(request)) != self._prompt:
            self._session.set_instruction(prompt)
            self._prompt = prompt
        _, frames, per_frame = self._policy.action_shape
        first, given = self._end, np.empty((0, per_frame, ACTION_DIM), np.float32)
        if first == 0:
            self._session.observe(0, self._encoder.encode([self._first_frame(request)])[0])
            given = self._still_frame()
        predicted = self._session.predict().actions if len(given) < frames else given[:0]
        actions = np.concatenate([given, predicted])[..., self._policy.channels].transpose(2, 0, 1)
        if not np.isfinite(actions).all():
            raise RuntimeError('the model predicted actions that are not finite; check its weights and what was sent')
        self._end = first + frames
        self._awaited = range(max(first, 1), self._end)
        return np.ascontiguousarray(actions, np.float32)

    def _feed_back(self, request: dict) -> None:
        if self._awaited is None:
            raise RequestError('no chunk was predicted since the last feedback; ask for one first')
        frames, expected = request.get('obs'), VIDEO_FRAMES_PER_LATENT * len(self._awaited)
        if not isinstance(frames, list) or len(frames) != expected:
            count = f'{len(frames)} frames' if isinstance(frames, list) else type(frames).__name__
            raise RequestError(
                f'obs has {count}; feedback on latent frames {list(self._awaited)} needs a list of {expected} frames'
            )
        images, actions = [self._images(frame) for frame in frames], self._actions(request)
        if self._awaited:
            own = actions[-len(self._awaited) :]
            for index, latent, executed in zip(self._awaited, self._encoder.encode(images), own, strict=True):
                self._session.observe(index, latent)
                self._session.executed(index, executed)
        self._awaited = None

    def _first_frame(self, request: dict) -> list[np.ndarray]:
        frame = request.get('obs')
        if isinstance(frame, list):
            if len(frame) != 1:
                raise RequestError(f'obs has {len(frame)} frames; the first chunk needs exactly one')
            frame = frame[0]
        return self._images(frame)

    def _images(self, frame: Any) -> list[np.ndarray]:
        """Return the images of one frame in the order of the canvas; other keys are the client's own."""
        if not isinstance(frame, Mapping):
            raise RequestError(f'a frame of obs is {type(frame).__name__}; it must be a map of images by camera')
        images = []
        for camera in self._policy.cameras:
            image = frame.get(camera)
            if not isinstance(image, np.ndarray):
                found = 'missing' if image is None else type(image).__name__
                raise RequestError(f"the image '{camera}' is {found}; give uint8 RGB [height, width, 3]")
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise RequestError(
                    f"the image '{camera}' is {image.dtype} {list(image.shape)}; give uint8 RGB [height, width, 3]"
                )
            if not all(1 <= side <= LARGEST_SIDE for side in image.shape[:2]):
                raise RequestError(
                    f"the image '{camera}' has {image.shape[0]}x{image.shape[1]} pixels; each side must have from 1 to "
                    f'{LARGEST_SIDE}'
                )
            images.append(image)
        return images

    def _actions(self, request: dict) -> np.ndarray:
        """Return `state`, [used, K, n], as actions [K, n, 30]."""
        state, shape = request.get('state'), self._policy.action_shape
        if not isinstance(state, np.ndarray) or state.dtype.kind not in 'uif' or state.shape != shape:
            kind = f'{state.dtype} {list(state.shape)}' if isinstance(state, np.ndarray) else type(state).__name__
            raise RequestError(f'state is {kind}; it must be numbers {list(shape)}, the action as it was returned')
        actions = np.zeros((*shape[1:], ACTION_DIM), np.float32)
        with np.errstate(over='ignore'):  # the session refuses what is not finite
            actions[..., self._policy.channels] = state.transpose(1, 2, 0)
        return actions

    def _still_frame(self) -> np.ndarray:
        """Actions of latent frame 0, [1, n, 30]: zero in normalised space."""
        still = torch.zeros(1, self._policy.action_shape[2], ACTION_DIM)
        return self._policy.model.normalizer.denormalize(still).numpy()


def _flag(request: dict, name: str) -> bool:
    value = request.get(name)
    if not isinstance(value, bool | None):
        raise RequestError(f'{name} is {type(value).__name__}; it must be true or false')
    return bool(value)


def _prompt(request: dict) -> str:
    prompt = request.get('prompt')
    if not isinstance(prompt, str) or len(prompt) > LONGEST_PROMPT:
        kind = f'{len(prompt)} characters long' if isinstance(prompt, str) else type(prompt).__name__
        raise RequestError(f'prompt is {kind}; it must be a text of at most {LONGEST_PROMPT} characters')
    return prompt
