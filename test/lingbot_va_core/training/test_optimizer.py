"""The learning rate's course and what is averaged."""

import pytest
import torch
from torch import nn

from lingbot_va_core.training.optimizer import Optimizer, learning_rate
from lingbot_va_core.training.settings import OptimizerSettings, TrainingError


def test_the_learning_rate_rises_stays_and_falls() -> None:
    settings = OptimizerSettings(lr=2.0, warmup=10, flat=0.5, final=0.1)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[0] == 0.2 and rates[9:51] == [2.0] * 42
    assert rates[75] == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert sorted(rates[51:], reverse=True) == rates[51:]
    assert 0.2 < rates[99] < 0.21


def test_matrices_decay_and_biases_do_not() -> None:
    module = nn.Linear(3, 2)
    nn.init.ones_(module.weight), nn.init.ones_(module.bias)
    optimizer = Optimizer(module, OptimizerSettings(lr=0.1, weight_decay=0.5, warmup=0), steps=10)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0)
    assert torch.allclose(module.weight, torch.full((2, 3), 0.95)) and (module.bias == 1).all()


def test_gradients_are_clipped_and_their_norm_told() -> None:
    module = nn.Linear(3, 1, bias=False)
    optimizer = Optimizer(module, OptimizerSettings(clip=1.0), steps=10)
    module.weight.grad = torch.full((1, 3), 10.0)
    norm, rate = optimizer.step(0)
    assert norm == pytest.approx(300**0.5) and rate == pytest.approx(1e-5)


def test_the_average_follows_the_weights_and_stands_in_for_them() -> None:
    module = nn.Linear(2, 1, bias=False)
    optimizer = Optimizer(module, OptimizerSettings(ema=0.5, lr=0.1, warmup=0, weight_decay=0.0), steps=10)
    before = module.weight.detach().clone()
    module.weight.grad = torch.ones(1, 2)
    optimizer.step(8)
    after = module.weight.detach().clone()
    with optimizer.averaged():
        assert torch.allclose(module.weight, (before + after) / 2)
    assert torch.equal(module.weight, after)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_gradients_that_are_not_finite_change_nothing(value: float) -> None:
    module = nn.Linear(2, 1)
    optimizer = Optimizer(module, OptimizerSettings(warmup=0), steps=10)
    before = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    module.weight.grad, module.bias.grad = torch.tensor([[1.0, value]]), torch.ones(1)
    with pytest.raises(TrainingError, match=r'norm of the gradients is (nan|inf) at step 5; lower optimizer.lr'):
        optimizer.step(4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in optimizer.state().items())


def test_decays_out_of_range_are_refused() -> None:
    with pytest.raises(TrainingError, match=r'ema 1.0; all must be at least 0 and below 1'):
        OptimizerSettings(ema=1.0)


def hidden_and_other() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({'blocks': nn.ModuleList([nn.Linear(4, 4)]), 'head': nn.Linear(4, 4)})


def give_gradients(module: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_muon_moves_the_matrices_of_the_blocks_alike_in_all_directions() -> None:
    settings = OptimizerSettings(muon=True, lr=0.1, warmup=0, weight_decay=0.0, ema=0.0)
    moved = []
    for scale in (1.0, 100.0):
        module = hidden_and_other()
        before = module['blocks'][0].weight.detach().clone()
        optimizer = Optimizer(module, settings, steps=10)
        give_gradients(module, 0)
        module['blocks'][0].weight.grad[0] *= scale  # one direction of the gradient outweighs the others
        optimizer.step(0)
        moved.append(module['blocks'][0].weight.detach() - before)
    for change in moved:
        lengths = torch.linalg.svdvals(change)
        assert lengths.max() < 2 * lengths.min() and lengths.max() < 0.1
    assert 'momentum_buffer.blocks.0.weight' in optimizer.state() and 'exp_avg.head.weight' in optimizer.state()


@pytest.mark.parametrize('muon', [False, True])
def test_what_was_saved_goes_on_bit_by_bit(muon: bool) -> None:
    settings = OptimizerSettings(muon=muon, warmup=0)
    module, again = hidden_and_other(), hidden_and_other()
    optimizer, restored = Optimizer(module, settings, steps=10), Optimizer(again, settings, steps=10)
    for step in range(3):
        give_gradients(module, step)
        optimizer.step(step)
    restored.load({name: tensor.clone() for name, tensor in optimizer.state().items()})
    for step in range(3, 6):
        for own, own_module in ((optimizer, module), (restored, again)):
            give_gradients(own_module, step)
            own.step(step)
    assert all(torch.equal(tensor, restored.state()[name]) for name, tensor in optimizer.state().items())
