"""AdamW, or Muon beside it, with its learning-rate schedule, clipped gradients and a moving average of the weights."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lingbot_va_core.training.settings import OptimizerSettings, TrainingError


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Return the learning rate of step 0..steps - 1: linear warm-up, flat, cosine to `final`."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    start = max(settings.warmup, round(settings.flat * steps))
    progress = min(max(step - start, 0) / max(steps - start, 1), 1.0)
    share = settings.final + (1.0 - settings.final) * (1.0 + math.cos(math.pi * progress)) / 2
    return settings.lr * share


class Optimizer:
    """Trains the parameters of a module that require gradients.

    Attributes:
        parameters: those, by name.
        average: their moving averages, by name; the parameters themselves without averaging.
    """

    def __init__(self, module: nn.Module, settings: OptimizerSettings, steps: int) -> None:
        self._settings, self._steps = settings, steps
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        hidden = [name for name, p in self.parameters.items() if settings.muon and _hidden(name, p)]
        matrices = [p for name, p in self.parameters.items() if _decays(name, p) and name not in hidden]
        others = [p for name, p in self.parameters.items() if not _decays(name, p)]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [{'params': matrices, 'weight_decay': settings.weight_decay}, {'params': others, 'weight_decay': 0.0}],
                lr=settings.lr,
                betas=settings.betas,
                fused=True,
            )
        ]
        if hidden:
            if any(isinstance(self.parameters[name], DTensor) for name in hidden):
                raise TrainingError('optimizer.muon needs whole matrices; train in one process, or without it')
            own = [self.parameters[name] for name in hidden]
            # Steps as long as those of AdamW, so that both have one learning rate.
            self._optimizers.append(
                torch.optim.Muon(
                    own, lr=settings.lr, weight_decay=settings.weight_decay, adjust_lr_fn='match_rms_adamw'
                )
            )
        self._hidden = set(hidden)
        self.average = self.parameters
        if settings.ema:
            self.average = {name: p.detach().clone() for name, p in self.parameters.items()}

    def step(self, step: int) -> tuple[float, float]:
        """Update weights and averages from the gradients, which are then gone.

        Returns:
            The norm of all gradients before it was clipped, and the learning rate.

        Raises:
            TrainingError: the norm is not finite; weights, averages and moments are as they were.
        """
        total = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self._settings.clip)
        norm = float(total.full_tensor() if isinstance(total, DTensor) else total)  # the same in all processes
        if not math.isfinite(norm):
            raise TrainingError(
                f'the norm of the gradients is {norm} at step {step + 1}; lower optimizer.lr, in another folder'
            )
        rate = learning_rate(step, self._steps, self._settings)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group['lr'] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self._settings.ema:
            decay = min(self._settings.ema, (1 + step) / (10 + step))
            averages, weights = (
                [_local(t.detach()) for t in tensors.values()] for tensors in (self.average, self.parameters)
            )
            torch._foreach_lerp_(averages, weights, 1.0 - decay)
        return norm, rate

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages in the place of the weights for as long as the block lasts."""
        if self.average is self.parameters:
            yield
            return
        kept = {name: _local(p.detach()).clone() for name, p in self.parameters.items()}
        self._fill(self.average)
        try:
            yield
        finally:
            self._fill(kept)

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, this process's part; the tensors are not copies."""
        tensors = {f'weight.{name}': p.detach() for name, p in self.parameters.items()}
        if self.average is not self.parameters:
            tensors |= {f'average.{name}': average for name, average in self.average.items()}
        for name, parameter in self.parameters.items():
            own = self._optimizer(name).state.get(parameter) or self._fresh(name)
            tensors |= {f'{key}.{name}': value for key, value in own.items()}
        return {name: _local(tensor) for name, tensor in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to what `state` returned."""
        self._fill({name: tensors[f'weight.{name}'] for name in self.parameters})
        for name, parameter in self.parameters.items():
            if self.average is not self.parameters:
                _local(self.average[name]).copy_(tensors[f'average.{name}'])
            self._optimizer(name).state[parameter] = own = self._fresh(name)
            for key, value in own.items():
                _local(value).copy_(tensors[f'{key}.{name}'])

    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            _local(parameter.detach()).copy_(_local(values[name]))

    def _optimizer(self, name: str) -> torch.optim.Optimizer:
        return self._optimizers[name in self._hidden]

    def _fresh(self, name: str) -> dict[str, Tensor]:
        """The state of a parameter's optimiser before its first step."""
        parameter = self.parameters[name]
        if name in self._hidden:
            return {'momentum_buffer': torch.zeros_like(parameter)}
        return {
            'step': torch.zeros((), device=parameter.device),
            'exp_avg': torch.zeros_like(parameter),
            'exp_avg_sq': torch.zeros_like(parameter),
        }


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim > 1 and not name.endswith('scale_shift_table')


def _hidden(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix between hidden layers, which Muon is for."""
    return parameter.ndim == 2 and 'blocks.' in name and not name.endswith('scale_shift_table')


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
