"""Several processes that train one model: started by torchrun, sharded by FSDP2; one process without either."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lingbot_va_core.training.settings import TrainingError


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Attributes:
        rank, size: this one's number, and how many there are.
        device: where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device('cpu')  # noqa: RUF009 (never changed)

    @property
    def first(self) -> bool:
        """Whether this process writes logs and files."""
        return self.rank == 0

    def share(self, count: int, what: str) -> range:
        """Return which of `count` things are this process's; raises TrainingError where they do not divide."""
        if count % self.size:
            raise TrainingError(f'{what} is {count}; it must be a multiple of the {self.size} processes')
        each = count // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def mean(self, value: Tensor) -> Tensor:
        """Average a tensor over the processes."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.size

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            dist.barrier()


def join_world(device: str = 'auto') -> World:
    """Join the processes that torchrun started (its environment says so), or be alone.

    Args:
        device: 'auto': a GPU for each process if there are any; or a device's name.
    """
    local = int(os.environ.get('LOCAL_RANK', 0))
    gpu = torch.cuda.is_available() if device == 'auto' else device.startswith('cuda')
    index = torch.device(device).index if device != 'auto' else None
    place = torch.device('cuda', local if index is None else index) if gpu else torch.device('cpu')
    if gpu:
        torch.cuda.set_device(place)
    if int(os.environ.get('WORLD_SIZE', 1)) == 1:
        return World(device=place)
    if not dist.is_initialized():
        dist.init_process_group('nccl' if gpu else 'gloo')
    return World(dist.get_rank(), dist.get_world_size(), place)


def leave_world() -> None:
    """End what `join_world` began."""
    if dist.is_initialized():
        dist.destroy_process_group()


def shard(module: nn.Module, world: World, precision: str) -> nn.Module:
    """Divide weights, gradients and optimiser state between the processes.

    Weights stay in float32; with precision 'bfloat16' they are gathered, and gradients computed, in bfloat16.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if world.size == 1:
        return module
    dtype = torch.bfloat16 if precision == 'bfloat16' else None
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    mesh = init_device_mesh(world.device.type, (world.size,))
    # Divided again after every forward, so that the next one sees what was changed in between.
    return fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gather tensors that are divided between processes; all of them must call this."""
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}
