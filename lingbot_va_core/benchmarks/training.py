"""What a training step costs, in one process and divided between several: the real task and optimiser, drawn data.

The baseline is one process. Every count of processes trains the same clips, so that the share of each falls as they
grow in number; each process has its share of the processor's threads.
"""

import os
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from lingbot_va_core.benchmarks.models import INSTRUCTION, build_model, check_counts, configured
from lingbot_va_core.benchmarks.timing import peak_memory_mib, spread, timed
from lingbot_va_core.robot import ACTION_DIM
from lingbot_va_core.training.clips import TrainingEpisode
from lingbot_va_core.training.distributed import join_world, leave_world
from lingbot_va_core.training.episodes import Mixture
from lingbot_va_core.training.optimizer import Optimizer
from lingbot_va_core.training.policy_training import PolicyTask
from lingbot_va_core.training.settings import PolicySettings
from lingbot_va_core.world_model import WorldModel

EPISODES = 4
WARM_UP = 2


def measure_training(
    preset: str, settings: PolicySettings, processes: Sequence[int], steps: int, device: str, threads: int
) -> dict[str, Any]:
    """Measure training steps with each count of processes, the first of which is the baseline.

    Args:
        preset: what is trained, from random weights.
        settings: of the training; `run.batch` is that of all processes together.
        processes: counts, such as 1, 2.
        steps: that are measured.
        device: 'cpu', 'cuda' or 'auto'.
        threads: of all processes together, on the CPU.

    Raises:
        ConfigError: the preset or a count is wrong.
        RuntimeError: a process failed.
    """
    check_counts(steps=steps, processes=min(processes))
    config = configured(preset)
    tokens = settings.run.batch * settings.run.accumulate * tokens_per_clip(config, settings.clips.frames)
    counts = []
    for count in processes:
        reports = _run(count, (preset, settings, steps, device, max(threads // count, 1)))
        step_ms = max((report['step_ms'] for report in reports), key=lambda times: times['p50'])
        counts.append(
            {
                'processes': count,
                'step_ms': step_ms,
                'tokens_per_s': 1e3 * tokens / step_ms['p50'],
                'memory_mib': max(report['memory_mib'] for report in reports),
            }
        )
        counts[-1]['scaling'] = counts[-1]['tokens_per_s'] / counts[0]['tokens_per_s']
    return {
        'preset': preset,
        'batch': settings.run.batch,
        'latent_frames': settings.clips.frames,
        'tokens_per_step': tokens,
        'precision': settings.run.precision,
        'threads': threads,
        'counts': counts,
    }


def tokens_per_clip(config: Any, frames: int) -> int:
    """Count the tokens of the training form of a clip: noisy and clean ones of both streams."""
    return 2 * frames * (config.video_tokens + config.rollout.actions_per_latent)


def drawn_mixture(model: WorldModel, frames: int) -> Mixture:
    """Return a few episodes of random latents and actions, as long as a clip and a half."""
    generator, length = torch.Generator().manual_seed(0), 3 * frames // 2
    used = model.normalizer.used()
    actions = (length, model.config.rollout.actions_per_latent, ACTION_DIM)
    episodes = []
    for number in range(EPISODES):
        latents = torch.randn((length, *model.config.latent_shape), generator=generator)
        labels = torch.randn(actions, generator=generator).clamp(-1, 1) * used
        mistaken = torch.zeros(length, dtype=torch.bool)
        episodes.append(
            TrainingEpisode(f'drawn {number}', latents, latents, labels, labels, used, INSTRUCTION, mistaken)
        )
    return Mixture([(episodes, 1.0)], [([], 1.0)], ('drawn',))


def _run(count: int, arguments: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Train in `count` new processes; return what each reports."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        try:
            multiprocessing.spawn(_train, (count, port, folder, arguments), nprocs=count)
        except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException) as error:
            raise RuntimeError(f'a training process failed: {str(error).strip().splitlines()[-1]}') from error
        return [torch.load(Path(folder) / str(rank), weights_only=True) for rank in range(count)]


def _train(rank: int, count: int, port: int, folder: str, arguments: tuple[Any, ...]) -> None:
    """Be one of the processes."""
    preset, settings, steps, device, threads = arguments
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )
    torch.set_num_threads(threads)
    world = join_world(device)
    try:
        model = build_model(configured(preset), torch.device('cpu'), torch.float32, vae=False)
        settings = replace(settings, run=replace(settings.run, steps=steps + WARM_UP))
        task = PolicyTask(model, drawn_mixture(model, settings.clips.frames), settings, world)
        optimizer = Optimizer(task.module, settings.optimizer, settings.run.steps)

        def step(number: int) -> None:
            for micro in range(settings.run.accumulate):
                (task.loss(number, micro)[0] / settings.run.accumulate).backward()
            optimizer.step(number)

        times = [timed(lambda number=number: step(number), world.device)[1] for number in range(settings.run.steps)]
        report = {'step_ms': spread(times[WARM_UP:]), 'memory_mib': peak_memory_mib(world.device)}
        torch.save(report, Path(folder) / str(rank))
    finally:
        leave_world()
