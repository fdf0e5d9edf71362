"""The training loop: steps, logs, looks at held-out data, and states to go on from."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lingbot_va_core.training.distributed import World
from lingbot_va_core.training.logs import RunLog
from lingbot_va_core.training.optimizer import Optimizer
from lingbot_va_core.training.record import outcome
from lingbot_va_core.training.run_state import claim_folder, load_state, save_state
from lingbot_va_core.training.settings import OptimizerSettings, RunSettings, TrainingError

CHECKPOINT = 'checkpoint'


class Task(Protocol):
    """What is trained.

    Attributes:
        name: shown to people.
        module: whose parameters that require gradients are trained.
        terms: names of the losses.
    """

    name: str
    module: nn.Module
    terms: Sequence[str]

    def loss(self, step: int, micro: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute forward `micro` of a step for this process's share of the clips: the loss and its terms."""
        ...

    def evaluate(self) -> Mapping[str, float]:
        """Return losses on held-out episodes, averaged over the processes; empty if there are none."""
        ...

    def draw(self, path: Path) -> bool:
        """Draw a picture of a held-out episode; False if there is none. All are asked, the first process draws."""
        ...

    def export(self, folder: Path, outcome: Mapping[str, Any]) -> None:
        """Write a checkpoint that says what came of the run; all processes are asked, the first one writes."""
        ...


def train(
    task: Task,
    run: RunSettings,
    optimizer_settings: OptimizerSettings,
    folder: Path,
    settings: Mapping[str, Any],
    world: World,
    show: bool = True,
) -> dict[str, float]:
    """Train, or go on with a run that was ended.

    Args:
        task: what is trained.
        run: the loop.
        optimizer_settings: of AdamW.
        folder: of the run: log.csv, tensorboard/, pictures/, the newest state and, at the end, checkpoint/.
        settings: all settings, as JSON, to recognise the run by.
        world: the processes.
        show: draw a progress bar.

    Returns:
        The last losses on held-out episodes, `steps` and `seconds_per_step` of this call.

    Raises:
        TrainingError: the folder holds something else, or the loss, the gradients or the weights are not finite.
    """
    claim_folder(folder, settings, world)
    optimizer = Optimizer(task.module, optimizer_settings, run.steps)
    state = load_state(folder, world)
    first = 0
    if state:
        first, tensors = state
        optimizer.load(tensors)
        del state, tensors
    columns = ['loss', *task.terms, 'lr', 'gradient_norm', 'seconds_per_step']
    columns += [f'held_out_{term}' for term in task.terms]
    log = RunLog(folder, columns, first, run.steps, task.name if show else None) if world.first else nullcontext()
    held_out: dict[str, float] = {}
    began = time.perf_counter()
    with log:
        meter = _Meter()
        for step in range(first, run.steps):
            terms = _gradients(task, run, step)
            norm, rate = optimizer.step(step)
            meter.add(terms)
            done = step + 1
            if done % run.log_every == 0 or done == run.steps:
                values = {**meter.take(world), 'lr': rate, 'gradient_norm': norm}
                if not torch.isfinite(torch.tensor(values['loss'])):
                    raise TrainingError(f'the loss is {values["loss"]} at step {done}; lower optimizer.lr')
                if world.first:
                    log.write(done, values)
                    log.advance(done, {name: values[name] for name in ('loss', *task.terms) if name in values})
            if done % run.evaluate_every == 0 or done == run.steps:
                with optimizer.averaged():
                    held_out = _look(task, folder, done, log, world) or held_out
            if done % run.save_every == 0 or done == run.steps:
                save_state(folder, done, optimizer.state(), world)
        with optimizer.averaged():
            task.export(folder / CHECKPOINT, outcome(folder) if world.first else {})
    steps = run.steps - first
    return {**held_out, 'steps': run.steps, 'seconds_per_step': (time.perf_counter() - began) / max(steps, 1)}


def _gradients(task: Task, run: RunSettings, step: int) -> dict[str, list[Tensor]]:
    """Run the forwards and backwards of a step; return the values of each term that occurred."""
    terms: dict[str, list[Tensor]] = {}
    for micro in range(run.accumulate):
        loss, parts = task.loss(step, micro)
        (loss / run.accumulate).backward()
        for name, value in {'loss': loss.detach(), **parts}.items():
            terms.setdefault(name, []).append(value)
    return terms


def _look(task: Task, folder: Path, step: int, log: Any, world: World) -> dict[str, float]:
    """Evaluate and draw, with the averaged weights."""
    with torch.no_grad():
        values = {f'held_out_{name}': value for name, value in task.evaluate().items()}
        path = folder / 'pictures' / f'{task.name}-{step:06}.png'
        if world.first:
            path.parent.mkdir(exist_ok=True)
            if values:
                log.write(step, values)
        if task.draw(path) and world.first:
            log.picture(path, step)
    world.barrier()
    return values


class _Meter:
    """Means of the terms since they were last taken, and the time of a step."""

    def __init__(self) -> None:
        self._terms: dict[str, list[Tensor]] = {}
        self._steps, self._began = 0, time.perf_counter()

    def add(self, terms: Mapping[str, list[Tensor]]) -> None:
        for name, values in terms.items():
            self._terms.setdefault(name, []).extend(values)
        self._steps += 1

    def take(self, world: World) -> dict[str, float]:
        means = {name: float(world.mean(torch.stack(values).mean())) for name, values in self._terms.items()}
        means['seconds_per_step'] = (time.perf_counter() - self._began) / self._steps
        self.__init__()
        return means
