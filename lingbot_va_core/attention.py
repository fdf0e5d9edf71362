"""Multi-head attention: projections with query and key normalisation, and the one call that attends.

Without a mask, as at inference, torch's scaled_dot_product_attention takes flash attention by itself wherever it can. A
mask, as in training, rules that out; `attention_mask` then offers flex_attention, which skips what the mask forbids,
and on a CPU attention in groups, which does the same.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from lingbot_va_core.grouped_attention import GroupedMask, attend_in_groups, attend_plainly, group_mask

BACKENDS = ('auto', 'sdpa', 'flex', 'groups')
FLEX_HEAD_DIM = 16  # smallest that the compiled kernel takes


class AttentionError(ValueError):
    """A backend that does not exist."""


@dataclass(frozen=True)
class SparseMask:
    """A mask that flex_attention can skip tiles by.

    Attributes:
        dense: bool [L, S].
        blocks: which tiles of it hold anything.
    """

    dense: Tensor
    blocks: BlockMask


class Attention(nn.Module):
    """Projections of one attention layer, between the stream's `width` and the `inner` width of all heads together.

    Queries and keys pass an RMSNorm over the whole inner width before they are split into heads.
    """

    def __init__(self, width: int, inner: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, inner)
        self.to_k = nn.Linear(width, inner)
        self.to_v = nn.Linear(width, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, width)])
        self.norm_q = nn.RMSNorm(inner, eps=eps)
        self.norm_k = nn.RMSNorm(inner, eps=eps)

    def query(self, x: Tensor) -> Tensor:
        """Map [B, L, width] to queries [B, L, heads, head_dim]."""
        return self.norm_q(self.to_q(x)).unflatten(-1, (self.heads, -1))

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, L, width] to keys and values, each [B, L, heads, head_dim]."""
        key = self.norm_k(self.to_k(x)).unflatten(-1, (self.heads, -1))
        return key, self.to_v(x).unflatten(-1, (self.heads, -1))

    def output(self, heads: Tensor) -> Tensor:
        """Map attended heads [B, L, heads, head_dim] to [B, L, width]."""
        return self.to_out[0](heads.flatten(-2))


def attention_mask(mask: Tensor, backend: str = 'auto') -> Tensor | SparseMask | GroupedMask:
    """Prepare a mask, once for all layers that `attend` with it, and so choose what they compute with.

    Args:
        mask: bool [L, S], True where a query may look.
        backend: 'sdpa': scaled_dot_product_attention, which runs everywhere. 'flex': flex_attention; compiled on a GPU,
            elsewhere slow and for tests. 'groups': see `grouped_attention`. 'auto': flex on a GPU that Triton can
            compile for, groups on a CPU, else sdpa.

    Raises:
        AttentionError: the backend is unknown.
    """
    if backend not in BACKENDS:
        raise AttentionError(f"attention backend is '{backend}'; choose one of {', '.join(BACKENDS)}")
    if backend == 'groups' or (backend == 'auto' and mask.device.type == 'cpu'):
        return group_mask(mask)
    if backend == 'sdpa' or (backend == 'auto' and not _compiles(mask.device)):
        return mask
    length, others = mask.shape

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return mask[query, key]

    return SparseMask(mask, create_block_mask(visible, None, None, length, others, device=mask.device))


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | SparseMask | GroupedMask | None = None) -> Tensor:
    """Softmax attention with scale 1 / sqrt(head_dim).

    Args:
        query: [B, L, heads, head_dim].
        key: [B, heads, S, head_dim], the layout of the cache.
        value: as key.
        mask: bool [L, S], True where a query may look, or what `attention_mask` made of it; None: everywhere.

    Returns:
        [B, L, heads, head_dim].
    """
    query = query.transpose(1, 2)
    if isinstance(mask, GroupedMask):
        return attend_in_groups(query, key, value, mask).transpose(1, 2)
    if mask is None and query.device.type == 'cpu' and query.requires_grad:  # a third of the fused kernel's gradients
        return attend_plainly(query, key, value).transpose(1, 2)
    if isinstance(mask, SparseMask):
        if _flex_takes(query, key, value):
            return _flex(query.device.type)(query, key, value, block_mask=mask.blocks).transpose(1, 2)
        mask = mask.dense
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def _compiles(device: torch.device) -> bool:
    return device.type == 'cuda' and importlib.util.find_spec('triton') is not None


def _flex_takes(*inputs: Tensor) -> bool:
    """Tell whether flex_attention can compute with these: it has no gradients on a CPU."""
    differentiable = inputs[0].device.type == 'cuda' or not any(x.requires_grad for x in inputs)
    return differentiable and inputs[0].shape[-1] >= FLEX_HEAD_DIM


@cache
def _flex(device_type: str) -> Any:
    """flex_attention; compiling it for a CPU takes half a minute and gains nothing there."""
    return torch.compile(flex_attention) if device_type == 'cuda' else flex_attention
