"""Weights on disk: safetensors files, checked before and read tensor by tensor, and written in shards.

Nothing is unpickled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lingbot_va_core.config import TransformerConfig

UNUSED = ('patch_embedding.weight', 'patch_embedding.bias')  # legacy weights of the released checkpoints
SHARD_BYTES = 4 * 10**9
SHOWN = 4  # names in an error message


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, written or used with a robot."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, not read yet; `dtype` is safetensors' name of it, such as 'BF16'."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


def stored_tensors(files: Iterable[Path], prefix: str = '') -> dict[str, StoredTensor]:
    """Read the headers of safetensors files.

    Args:
        files: the shards of one part.
        prefix: only names that begin with it count, and it is removed.

    Raises:
        CheckpointError: files are missing, truncated or no safetensors files; all of them are listed.
    """
    found: dict[str, StoredTensor] = {}
    missing, broken = [], []
    for file in files:
        try:
            with safe_open(file, framework='pt') as reader:
                for name in reader.keys():  # noqa: SIM118 (not a mapping)
                    if name.startswith(prefix):
                        part = reader.get_slice(name)
                        stored = StoredTensor(file, name, tuple(part.get_shape()), part.get_dtype())
                        found[name.removeprefix(prefix)] = stored
        except FileNotFoundError:
            missing.append(str(file))
        except (SafetensorError, OSError) as error:
            broken.append(f'{file} ({error})')
    problems = [f'{some(missing)} {"is" if len(missing) == 1 else "are"} missing'] * bool(missing)
    problems += [f'{some(broken)} cannot be read as safetensors'] * bool(broken)
    if problems:
        raise CheckpointError(f'{" and ".join(problems)}; copy the checkpoint again')
    return found


def load_weights(
    module: nn.Module,
    files: Path | Sequence[Path],
    device: torch.device,
    dtype: torch.dtype | None,
    prefix: str = '',
) -> None:
    """Give `module`, built on the meta device, the weights of safetensors files, in any floating-point type.

    Everything is checked before the first tensor is read. Tensors are read and converted one by one, so that memory
    never holds more than the module and one tensor.

    Args:
        module: takes the tensors as its own and is frozen.
        files: one file, or all shards.
        device: of the module from now on.
        dtype: of all its tensors from now on; None: each as it is stored.
        prefix: see `stored_tensors`.

    Raises:
        CheckpointError: a file cannot be read, or weights are missing, unknown, of another shape or no floating-point
            numbers; they are listed.
    """
    files = [files] if isinstance(files, Path) else list(files)
    stored = {name: tensor for name, tensor in stored_tensors(files, prefix).items() if name not in UNUSED}
    check_weights(stored, {name: tuple(t.shape) for name, t in module.state_dict().items()}, files)
    weights = {}
    for file in files:
        try:
            # Read into memory of its own: pages of a mapped file would count a second time.
            with safe_open(file, framework='pt', backend='pread') as reader:
                for name, tensor in stored.items():
                    if tensor.file == file:
                        weights[name] = reader.get_tensor(tensor.name).to(device, dtype)  # None: as it is
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f'{file} cannot be read ({error}); copy the checkpoint again') from error
    module.load_state_dict(weights, assign=True)
    module.requires_grad_(False)


def check_weights(
    stored: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]], files: Sequence[Path]
) -> None:
    """Compare what is stored with what a module needs; raises CheckpointError with all differences."""
    missing, unknown = sorted(expected.keys() - stored.keys()), sorted(stored.keys() - expected.keys())
    both = sorted(expected.keys() & stored.keys())
    misshapen = [
        f'{name} is {list(stored[name].shape)}, but its config.json asks for {list(expected[name])}'
        for name in both
        if stored[name].shape != expected[name]
    ]
    odd = [f'{name} ({stored[name].dtype})' for name in both if not stored[name].dtype.startswith(('F', 'BF'))]
    problems = [f'misses {some(missing)}'] * bool(missing) + [f'holds the unknown {some(unknown)}'] * bool(unknown)
    problems += [f'holds no floating-point numbers in {some(odd)}'] * bool(odd)
    where = str(files[0]) if len(files) == 1 else f'{files[0].parent} ({len(files)} shards)'
    message = f'{where} {" and ".join(problems)}' if problems else where
    if misshapen:
        message += f'{"; " if problems else ": "}{some(misshapen, "; ")}'
    if problems or misshapen:
        raise CheckpointError(f'{message}; its config.json belongs to another model')


def write_weights(tensors: Mapping[str, Tensor], folder: Path, stem: str, limit: int = SHARD_BYTES) -> dict[str, str]:
    """Write `<stem>.safetensors`, or numbered shards where one file would exceed `limit` bytes.

    Returns:
        The file of each tensor.

    Raises:
        OSError, SafetensorError: a file cannot be written.
    """
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    where = {}
    for i, shard in enumerate(shards):
        number = f'-{i + 1:05}-of-{len(shards):05}' if len(shards) > 1 else ''
        file = f'{stem}{number}.safetensors'
        write_tensors(shard, folder / file)
        where |= dict.fromkeys(shard, file)
    return where


def write_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write one file, readable by all users; raises OSError or SafetensorError."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)
    file.chmod(0o644)  # safetensors gives it to its owner alone


def legacy_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the `UNUSED` tensors, a convolution; empty for a transformer that the released layout cannot hold."""
    if config.action is not None:
        return {}
    weight, bias = UNUSED
    width = config.video.width
    return {weight: (width, config.latent_channels, *config.patch_size), bias: (width,)}


def some(names: Sequence[str], separator: str = ', ') -> str:
    """Join the first few names and count the others."""
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return separator.join(names[:SHOWN]) + more
