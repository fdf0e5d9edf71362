"""Low-rank adapters: W + (alpha / rank) B A, of which only A and B are trained (Hu et al., LoRA, 2021)."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lingbot_va_core.training.settings import LoraSettings, TrainingError
from lingbot_va_core.transformer import WorldTransformer

BLOCKS = ('blocks.', 'action_blocks.')


class LowRank(nn.Module):
    """Adds a product of two thin matrices to a weight; B is zero at first."""

    def __init__(self, weight: Tensor, settings: LoraSettings, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        down = torch.randn(settings.rank, inputs, generator=generator) / inputs**0.5
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(outputs, settings.rank, device=weight.device))
        self._scale = settings.alpha / settings.rank

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight."""
        return weight + self._scale * (self.up @ self.down).type_as(weight)


def add_adapters(transformer: WorldTransformer, settings: LoraSettings, seed: int = 0) -> None:
    """Freeze all weights that require gradients, and train adapters of the blocks' linear layers among them instead.

    Raises:
        TrainingError: no linear layer of a block was to be trained.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = [
        module
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(BLOCKS) and module.weight.requires_grad
    ]
    if not chosen:
        raise TrainingError('lora.rank is above 0, but no linear layer of a block is to be trained')
    transformer.requires_grad_(False)
    for module in chosen:
        parametrize.register_parametrization(module, 'weight', LowRank(module.weight, settings, generator))
        module.parametrizations.weight.original.requires_grad_(False)


def merged_state(transformer: nn.Module) -> dict[str, Tensor]:
    """Return the state of a transformer under its own names, adapters added to the weights they belong to."""
    state = {}
    for name, tensor in transformer.state_dict().items():
        if '.parametrizations.' not in name:
            state[name] = tensor
        elif name.endswith('.weight.original'):
            module = transformer.get_submodule(name.split('.parametrizations.')[0])
            state[name.replace('.parametrizations.weight.original', '.weight')] = module.weight.detach()
    return state
