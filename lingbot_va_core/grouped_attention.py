"""Masked attention on a CPU: groups of queries that look at the same keys, each without a mask.

In the training form of a sequence most of the mask is empty, and what a chunk's tokens of one kind see are a few whole
pieces of the sequence. Two plain matrix products per group then do no work in vain, and their gradients take a fraction
of those of the fused kernel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GroupedMask:
    """A mask in pieces.

    Attributes:
        queries: length of each group of successive queries that look at the same keys.
        keys: length of each piece of successive keys that are looked at by the same queries.
        seen: of each group, the numbers of the pieces that it looks at.
    """

    queries: list[int]
    keys: list[int]
    seen: list[list[int]]


def group_mask(mask: Tensor) -> GroupedMask:
    """Divide a mask, bool [L, S], True where a query may look."""
    queries, keys = _runs(mask), _runs(mask.T)
    rows = torch.tensor([0, *queries[:-1]]).cumsum(0)
    columns = torch.tensor([0, *keys[:-1]]).cumsum(0)
    pieces = mask.cpu()[rows][:, columns]
    return GroupedMask(queries, keys, [row.nonzero().flatten().tolist() for row in pieces])


def attend_in_groups(query: Tensor, key: Tensor, value: Tensor, mask: GroupedMask) -> Tensor:
    """Softmax attention of [B, heads, L, head_dim] with scale 1 / sqrt(head_dim); the same shape."""
    queries = query.split(mask.queries, dim=2)
    keys, values = key.split(mask.keys, dim=2), value.split(mask.keys, dim=2)
    attended = [
        attend_plainly(own, torch.cat([keys[i] for i in seen], dim=2), torch.cat([values[i] for i in seen], dim=2))
        for own, seen in zip(queries, mask.seen, strict=True)
    ]
    return torch.cat(attended, dim=2)


def attend_plainly(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by two matrix products, all in the type of the values; shapes as in `attend_in_groups`."""
    batch, scale = query.shape[:2], query.shape[-1] ** -0.5
    query, key, value = ((x.to(value.dtype)).flatten(0, 1) for x in (query * scale, key, value))
    with torch.autocast(value.device.type, enabled=False):  # which would compute the softmax in float32
        weights = torch.softmax(torch.bmm(query, key.transpose(1, 2)), dim=-1)
        return torch.bmm(weights, value).unflatten(0, batch)


def _runs(mask: Tensor) -> list[int]:
    """Lengths of the runs of equal rows."""
    changes = (mask[1:] != mask[:-1]).any(dim=1).nonzero().flatten().cpu() + 1
    edges = torch.cat([torch.tensor([0]), changes, torch.tensor([len(mask)])])
    return edges.diff().tolist()
