"""What a model is: sizes of its parts and how it is rolled out, as frozen dataclasses with a JSON form."""

import math
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from lingbot_va_core.cache import EVICTIONS
from lingbot_va_core.canvas import canvas_size, view_sizes
from lingbot_va_core.flow_matching import AXES
from lingbot_va_core.robot import CAMERA_LAYOUTS

MINILM_DIM = 384


class ConfigError(ValueError):
    """A configuration that cannot be read or contradicts itself."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(math.isfinite(value) and value > 0, f'{name} is {value}; it must be above 0')


@dataclass(frozen=True)
class ExpertConfig:
    """One stream's own weights: width of its residual stream and of its feed-forward layer."""

    width: int
    ffn_width: int

    def __post_init__(self) -> None:
        _positive(self, 'width', 'ffn_width')


@dataclass(frozen=True)
class TransformerConfig:
    """The transformer. Joint attention runs at the video expert's width, num_heads * head_dim.

    Attributes:
        action: the action stream's own expert, as in the paper; None: both streams run through the video expert's
            blocks, as in the released checkpoints.
        patch_size: latent frames, rows and columns of one video token.
        text_dim: width of the text encoder's output.
        freq_dim: size of the sinusoidal timestep features.
    """

    num_layers: int
    num_heads: int
    head_dim: int
    video: ExpertConfig
    action: ExpertConfig | None
    latent_channels: int
    patch_size: tuple[int, int, int]
    text_dim: int
    freq_dim: int
    action_dim: int = 30
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _positive(self, 'num_layers', 'num_heads', 'head_dim', 'latent_channels', 'text_dim', 'freq_dim', 'action_dim')
        _positive(self, 'eps')
        _require(
            self.video.width == self.num_heads * self.head_dim,
            f'video.width is {self.video.width}; it must be num_heads * head_dim = {self.num_heads * self.head_dim}',
        )
        for name in ('head_dim', 'freq_dim'):
            _require(getattr(self, name) % 2 == 0, f'{name} is {getattr(self, name)}; it must be even')
        _require(self.head_dim >= 6, f'head_dim is {self.head_dim}; rotary embedding of three axes needs at least 6')
        if self.action is not None:
            _require(
                self.action.width % self.num_heads == 0,
                f'action.width is {self.action.width}; it must be a multiple of num_heads = {self.num_heads}',
            )
        _require(
            len(self.patch_size) == 3 and min(self.patch_size) >= 1 and self.patch_size[0] == 1,
            f'patch_size is {self.patch_size}; it must be (1, rows, columns)',
        )

    @property
    def patch_channels(self) -> int:
        """Numbers in one video token before it is embedded."""
        return self.latent_channels * math.prod(self.patch_size)


@dataclass(frozen=True)
class VAEConfig:
    """The causal video VAE.

    Attributes:
        kind: 'tiny': this project's own small VAE.
        widths: channels at a quarter, an eighth and a sixteenth of the resolution.
        stride: pixels per latent row and column.
    """

    kind: str
    latent_channels: int
    widths: tuple[int, int, int]
    stride: int = 16

    def __post_init__(self) -> None:
        _require(self.kind == 'tiny', f"kind is '{self.kind}'; choose 'tiny'")
        _positive(self, 'latent_channels', 'stride')
        _require(self.stride == 16, f'stride is {self.stride}; the tiny VAE has 16')
        _require(
            len(self.widths) == 3 and all(width > 0 and width % 8 == 0 for width in self.widths),
            f'widths is {self.widths}; give three positive multiples of 8',
        )


@dataclass(frozen=True)
class WanVAEConfig:
    """The Wan2.2 video VAE, from what diffusers' AutoencoderKLWan is built with.

    Attributes:
        kind: 'wan'.
        base_dim, decoder_base_dim: channels at the finest level of encoder and decoder.
        dim_mult: multiple of them at each level; the resolution halves from one level to the next.
        num_res_blocks: residual blocks per level.
        temporal_downsample: between which levels the frame rate halves, too; two of them.
        patch_size: pixels of one side that are folded into channels first.
        latents_mean, latents_std: per latent channel, to scale the latents to unit variance.
    """

    kind: str
    base_dim: int
    decoder_base_dim: int
    latent_channels: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_downsample: tuple[bool, ...]
    patch_size: int
    latents_mean: tuple[float, ...]
    latents_std: tuple[float, ...]

    def __post_init__(self) -> None:
        _require(self.kind == 'wan', f"kind is '{self.kind}'; it must be 'wan'")
        _positive(self, 'base_dim', 'decoder_base_dim', 'latent_channels', 'num_res_blocks', 'patch_size')
        _require(
            len(self.dim_mult) > 1 and min(self.dim_mult) > 0,
            f'dim_mult is {self.dim_mult}; give a positive multiple for each of at least two levels',
        )
        _require(
            len(self.temporal_downsample) == len(self.dim_mult) - 1 and sum(self.temporal_downsample) == 2,
            f'temporal_downsample is {self.temporal_downsample}; it must have {len(self.dim_mult) - 1} values, two of '
            'them true, because a latent frame stands for four frames',
        )
        for name in ('latents_mean', 'latents_std'):
            values = getattr(self, name)
            _require(
                len(values) == self.latent_channels and all(map(math.isfinite, values)),
                f'{name} has {len(values)} values; it must have {self.latent_channels} finite ones',
            )
        _require(min(self.latents_std) > 0, f'latents_std has {min(self.latents_std)}; all must be above 0')

    @property
    def stride(self) -> int:
        """Pixels per latent row and column."""
        return self.patch_size * 2 ** len(self.temporal_downsample)


@dataclass(frozen=True)
class TextConfig:
    """The text encoder.

    Attributes:
        kind: 'umt5': that of the released checkpoints; 'minilm': a small one; 'hashed': without any weights.
        length: rows of an embedded instruction, the unused ones zero.
        source: where the weights of 'umt5' are: a folder or Hub id with text_encoder/ and tokenizer/; null: nowhere,
            so that only known instructions can be used.
    """

    kind: str
    length: int
    source: str | None = None

    def __post_init__(self) -> None:
        kinds = ('hashed', 'minilm', 'umt5')
        _require(self.kind in kinds, f"kind is '{self.kind}'; choose one of {', '.join(kinds)}")
        _positive(self, 'length')


@dataclass(frozen=True)
class RolloutConfig:
    """How the model is run in the loop.

    Attributes:
        height, width: size of a full camera view in pixels; tshape halves the wrist views.
        camera_layout: 'width' or 'tshape', see `canvas`.
        cameras: number of cameras.
        chunk_frames: K, latent frames per chunk.
        actions_per_latent: control steps per latent frame.
        video_steps, action_steps: N of the schedule.
        video_guidance, action_guidance: classifier-free guidance scale; 1 is off.
        video_shift, action_shift: shift of the schedule towards noise.
        video_exec_step: run only this many forwards of the video schedule; None: denoise fully.
        video_s: or denoise the video to this s, from 0 (noise) to 1 (clean), on the axis `video_s_axis`, see
            `flow_matching.schedule`.
        fdm_steps: N of the schedule by which forward dynamics predicts the video of actions in execution; None:
            video_steps.
        fdm_s: to this s, likewise; None: to the noise level that the imagined video is denoised to.
        cache_eviction: in mode sync, 'released': token by token; 'frames': in whole latent frames, as asynchronous
            modes always do, see `cache`.
        attn_window: history that is attended to, in units of half a chunk.
        relative_poses: whether poses in the actions are relative to where a task begins, or in base frames; None: the
            checkpoint does not say.
    """

    height: int
    width: int
    camera_layout: str
    cameras: int
    chunk_frames: int
    actions_per_latent: int
    video_steps: int
    action_steps: int
    attn_window: int
    video_guidance: float = 1.0
    action_guidance: float = 1.0
    video_shift: float = 5.0
    action_shift: float = 1.0
    video_exec_step: int | None = None
    video_s: float | None = None
    video_s_axis: str = 'unshifted'
    cache_eviction: str = field(default='released', metadata={'newer': True})
    fdm_steps: int | None = field(default=None, metadata={'newer': True})
    fdm_s: float | None = field(default=None, metadata={'newer': True})
    relative_poses: bool | None = field(default=None, metadata={'newer': True})

    def __post_init__(self) -> None:
        _positive(self, 'height', 'width', 'cameras', 'chunk_frames', 'actions_per_latent', 'video_steps')
        _positive(self, 'action_steps', 'video_shift', 'action_shift')
        layouts = ', '.join(CAMERA_LAYOUTS)
        _require(
            self.camera_layout in CAMERA_LAYOUTS, f"camera_layout is '{self.camera_layout}'; choose one of {layouts}"
        )
        fewest, most = CAMERA_LAYOUTS[self.camera_layout]
        _require(
            fewest <= self.cameras <= most,
            f'cameras is {self.cameras}; camera_layout {self.camera_layout} takes {fewest} to {most}',
        )
        for name in ('video_guidance', 'action_guidance'):
            _require(getattr(self, name) >= 1, f'{name} is {getattr(self, name)}; it must be at least 1, which is off')
        if self.video_exec_step is not None:
            _require(
                1 <= self.video_exec_step <= self.video_steps,
                f'video_exec_step is {self.video_exec_step}; it must be from 1 to video_steps = {self.video_steps}, '
                'or null',
            )
            _require(self.video_s is None, 'video_exec_step and video_s both say where to stop; one must be null')
        for name in ('video_s', 'fdm_s'):
            value = getattr(self, name)
            _require(value is None or 0 <= value <= 1, f'{name} is {value}; it must be from 0 (noise) to 1 (clean)')
        if self.fdm_steps is not None:
            _positive(self, 'fdm_steps')
        for name, choices in (('video_s_axis', AXES), ('cache_eviction', EVICTIONS)):
            value = getattr(self, name)
            _require(value in choices, f"{name} is '{value}'; choose one of {', '.join(choices)}")
        _require(self.attn_window >= 2, f'attn_window is {self.attn_window}; it must be at least 2, one chunk')

    @property
    def view_sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each camera's view in pixels."""
        return view_sizes(self.camera_layout, self.height, self.width, self.cameras)

    @property
    def canvas_size(self) -> tuple[int, int]:
        """(height, width) of the canvas in pixels."""
        return canvas_size(self.camera_layout, self.height, self.width, self.cameras)


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: its name, its parts and how it is rolled out."""

    name: str
    transformer: TransformerConfig
    vae: VAEConfig | WanVAEConfig
    rollout: RolloutConfig
    text: TextConfig = field(default_factory=lambda: TextConfig('hashed', 32))

    def __post_init__(self) -> None:
        _require(bool(self.name), 'name is empty; give the model a name')
        _require(
            self.transformer.latent_channels == self.vae.latent_channels,
            f'transformer.latent_channels is {self.transformer.latent_channels} but vae.latent_channels is '
            f'{self.vae.latent_channels}; they must be equal',
        )
        stride = self.vae.stride
        for height, width in self.rollout.view_sizes:
            _require(
                height % stride == 0 and width % stride == 0,
                f'rollout: a camera view of {height}x{width} pixels does not divide into latents of {stride}x{stride}; '
                'choose multiples (wrist views are half the size in tshape)',
            )
        rows, columns = (stride * patch for patch in self.transformer.patch_size[1:])
        height, width = self.rollout.canvas_size
        _require(
            height % rows == 0 and width % columns == 0,
            f'rollout: the canvas of all views, {height}x{width} pixels, does not divide into tokens of '
            f'{rows}x{columns}; choose multiples of {rows} and {columns} for height and width, twice that in tshape',
        )
        _require(
            self.text.kind != 'minilm' or self.transformer.text_dim == MINILM_DIM,
            f'transformer.text_dim is {self.transformer.text_dim}; text.kind minilm has {MINILM_DIM}',
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of one latent frame of the canvas."""
        height, width = self.rollout.canvas_size
        return self.vae.latent_channels, height // self.vae.stride, width // self.vae.stride

    @property
    def video_tokens(self) -> int:
        """Video tokens per latent frame."""
        _, rows, columns = self.latent_shape
        return (rows // self.transformer.patch_size[1]) * (columns // self.transformer.patch_size[2])

    @property
    def chunk_tokens(self) -> int:
        """Video and action tokens of a chunk."""
        return self.rollout.chunk_frames * (self.video_tokens + self.rollout.actions_per_latent)

    @property
    def cache_slots(self) -> int:
        """Tokens that the KV cache holds: attn_window // 2 chunks."""
        return (self.rollout.attn_window // 2) * self.chunk_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: object) -> 'ModelConfig':
        """Read the JSON form; raises ConfigError naming the field, the value and what is allowed."""
        return _read(cls, document, 'config')


def _read(kind: Any, value: object, where: str) -> Any:
    """Convert JSON into the annotated type `kind`."""
    if isinstance(kind, types.UnionType):
        kinds = [option for option in get_args(kind) if option is not types.NoneType]
        if value is None and len(kinds) < len(get_args(kind)):
            return None
        if WanVAEConfig in kinds:  # the one choice between dataclasses
            return _read(WanVAEConfig if _kind(value, where) == 'wan' else VAEConfig, value, where)
        return _read(kinds[0], value, where)
    if get_origin(kind) is tuple:
        items = get_args(kind)
        if items[-1] is Ellipsis and isinstance(value, list | tuple):
            items = items[:1] * len(value)
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise ConfigError(f'{where} is {value!r}; it must be a list of {len(items)} numbers')
        return tuple(
            _read(item, part, f'{where}[{i}]') for i, (item, part) in enumerate(zip(items, value, strict=True))
        )
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f'{where} is {value!r}; it must be of type {kind.__name__}')
    return value


def _kind(value: object, where: str) -> str:
    kind = value.get('kind') if isinstance(value, dict) else None
    _require(kind in ('tiny', 'wan'), f"{where}: kind is {kind!r}; choose 'tiny' or 'wan'")
    return kind


def _read_dataclass(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f'{where} is {value!r}; it must be a mapping')
    names = [entry.name for entry in fields(kind)]
    newer = [entry.name for entry in fields(kind) if entry.metadata.get('newer')]  # absent in older checkpoints
    missing = [name for name in names if name not in value and name not in newer]
    unknown = [str(name) for name in value if name not in names]
    if missing or unknown:
        problems = [f'missing {", ".join(missing)}'] * bool(missing) + [f'unknown {", ".join(unknown)}'] * bool(unknown)
        raise ConfigError(f'{where}: {"; ".join(problems)}; the fields are {", ".join(names)}')
    hints = get_type_hints(kind)
    arguments = {name: _read(hints[name], value[name], f'{where}.{name}') for name in names if name in value}
    try:
        return kind(**arguments)
    except ConfigError as error:
        raise ConfigError(f'{where}: {error}') from error
