"""Attention by either backend is the same, and what is not available falls back."""

import pytest
import torch
from torch import Tensor

from lingbot_va_core.attention import AttentionError, SparseMask, attend, attention_mask
from lingbot_va_core.grouped_attention import GroupedMask, group_mask
from lingbot_va_core.sequence import causal_mask

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='compiled flex_attention needs a GPU')


def inputs(
    length: int, head_dim: int = 16, device: str = 'cpu', dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of two heads."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, length, 2, head_dim, generator=generator)
    others = torch.randn(2, 2, 2, length, head_dim, generator=generator)
    return tuple(x.to(device, dtype) for x in (query, *others))


def training_mask(device: str = 'cpu') -> Tensor:
    return causal_mask([2, 3, 1], 12, 5, 3, torch.device(device))  # 204 tokens: not a multiple of a tile


def by_hand(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = torch.einsum('blhd,bhsd->bhls', query, key) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, float('-inf')).softmax(dim=-1)
    return torch.einsum('bhls,bhsd->blhd', weights, value)


@pytest.mark.filterwarnings('ignore:flex_attention called without torch.compile')
@pytest.mark.parametrize('backend', ['sdpa', 'flex', 'groups'])
def test_every_backend_attends_where_the_mask_says(backend: str) -> None:
    mask = training_mask()
    query, key, value = inputs(len(mask))
    prepared = attention_mask(mask, backend)
    assert isinstance(prepared, SparseMask) == (backend == 'flex')
    torch.testing.assert_close(attend(query, key, value, prepared), by_hand(query, key, value, mask))


def test_gradients_on_a_cpu_fall_back() -> None:
    mask = training_mask()
    leaves = [x.requires_grad_(True) for x in inputs(len(mask))]
    expected, ours = (
        torch.autograd.grad(attend(*leaves, attention_mask(mask, backend)).square().sum(), leaves)
        for backend in ('sdpa', 'flex')
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


def test_without_a_gpu_that_can_compile_a_mask_goes_into_groups_or_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask = training_mask()
    assert isinstance(attention_mask(mask), GroupedMask)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert isinstance(attention_mask(mask.to('meta')), Tensor)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('masked', [True, False])
def test_gradients_on_a_cpu_are_those_of_the_fused_kernel(dtype: torch.dtype, masked: bool) -> None:
    mask = training_mask() if masked else torch.ones(204, 204, dtype=torch.bool)
    exact = [x.double().requires_grad_(True) for x in inputs(len(mask))]
    expected = torch.autograd.grad(by_hand(*exact, mask).square().sum(), exact)
    leaves = [x.to(dtype).requires_grad_(True) for x in inputs(len(mask))]
    attended = attend(*leaves, attention_mask(mask) if masked else None)
    ours = torch.autograd.grad(attended.float().square().sum(), leaves)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for gradient, reference in zip(ours, expected, strict=True):
        assert (gradient.double() - reference).abs().max() < tolerance * reference.abs().max()


def test_groups_are_those_queries_that_see_the_same_keys() -> None:
    mask = group_mask(causal_mask([1, 1], 3, 2, None, torch.device('cpu')))
    assert mask.queries == [3, 3, 3, 3, 2, 2, 2, 2]  # noisy and clean video, noisy and clean actions of two chunks
    assert mask.seen[0] == [0]  # the first noisy video sees itself alone


def test_heads_that_the_kernel_cannot_take_fall_back() -> None:
    mask = training_mask()
    query, key, value = inputs(len(mask), head_dim=12)
    expected = attend(query, key, value, mask)
    assert torch.equal(attend(query, key, value, attention_mask(mask, 'flex')), expected)


def test_without_a_mask_everything_is_seen() -> None:
    query, key, value = inputs(9)
    everything = torch.ones(9, 9, dtype=torch.bool)
    torch.testing.assert_close(attend(query, key, value), by_hand(query, key, value, everything))


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(AttentionError, match="attention backend is 'magic'; choose one of auto, sdpa, flex, groups"):
        attention_mask(training_mask(), 'magic')


@GPU
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 2e-3), (torch.bfloat16, 2e-2)])
def test_a_gpu_compiles_what_the_fallback_computes(dtype: torch.dtype, tolerance: float) -> None:
    mask = training_mask('cuda')
    leaves = [x.requires_grad_(True) for x in inputs(len(mask), 64, 'cuda', dtype)]
    prepared = attention_mask(mask)
    assert isinstance(prepared, SparseMask)
    results = []
    for chosen in (prepared, mask):
        attended = attend(*leaves, chosen)
        results.append((attended, *torch.autograd.grad(attended.float().square().sum(), leaves)))
    for ours, fallback in zip(*results, strict=True):
        torch.testing.assert_close(ours, fallback, rtol=tolerance, atol=tolerance * fallback.abs().max().item())
