"""Multi-head attention: projections with query and key normalisation, and the one call that attends."""

import torch.nn.functional as F
from torch import Tensor, nn


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


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention with scale 1 / sqrt(head_dim).

    Args:
        query: [B, L, heads, head_dim].
        key: [B, heads, S, head_dim], the layout of the cache.
        value: as key.
        mask: bool [L, S], True where a query may look; None: everywhere.

    Returns:
        [B, L, heads, head_dim].
    """
    return F.scaled_dot_product_attention(query.transpose(1, 2), key, value, attn_mask=mask).transpose(1, 2)
