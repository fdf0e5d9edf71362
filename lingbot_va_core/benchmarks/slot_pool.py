"""The KV pool of the released implementation: slots in any order, gathered for every layer of every forward."""

import torch
from torch import Tensor

from lingbot_va_core.config import ModelConfig


class SlotPool:
    """Keys and values of all layers, [layers, rows, slots, heads, head_dim]; where slots run short the oldest go."""

    def __init__(self, config: ModelConfig, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        transformer = config.transformer
        shape = (transformer.num_layers, rows, config.cache_slots, transformer.num_heads, transformer.head_dim)
        self._keys, self._values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        self._written = torch.empty(config.cache_slots, dtype=torch.long, device=device)
        self._predicted = torch.empty(config.cache_slots, dtype=torch.bool, device=device)
        self.clear()

    @property
    def valid(self) -> Tensor:
        """Slots in use."""
        return (self._written >= 0).nonzero().flatten()

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        return self._keys.nbytes + self._values.nbytes

    def clear(self) -> None:
        """Free everything."""
        self._written.fill_(-1)
        self._predicted.fill_(False)
        self._count = 0

    def take(self, count: int, predicted: bool = False) -> Tensor:
        """Take slots for as many tokens, and free the oldest ones where too few are left."""
        missing = count - int((self._written < 0).sum())
        if missing > 0:
            order = torch.where(self._written < 0, torch.iinfo(torch.long).max, self._written).argsort()
            self._written[order[:missing]] = -1
        taken = (self._written < 0).nonzero().flatten()[:count]
        self._written[taken] = torch.arange(self._count, self._count + count, device=taken.device)
        self._predicted[taken] = predicted
        self._count += count
        return taken

    def free(self, slots: Tensor) -> None:
        """Free slots of a transient write."""
        self._written[slots] = -1

    def drop_predicted(self) -> None:
        """Free what was predicted."""
        self._written[self._predicted] = -1
        self._predicted.fill_(False)

    def extend(self, layer: int, slots: Tensor, valid: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store [rows, L, heads, head_dim] of a layer; return copies [rows, heads, S, head_dim] of all in use."""
        gathered = []
        for pool, new in ((self._keys[layer], key), (self._values[layer], value)):
            rows = pool[: len(new)]
            rows[:, slots] = new
            gathered.append(rows[:, valid].transpose(1, 2))
        return gathered[0], gathered[1]
