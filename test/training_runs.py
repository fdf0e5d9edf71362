"""Runs of a few steps that tests start here, in a process of their own, or under torchrun."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.config import ExpertConfig, ModelConfig, TextConfig
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.initialization import initialize_transformer, initialize_vae
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.presets import TINY
from lingbot_va_core.robot import RobotProfile, load_profile
from lingbot_va_core.training.distributed import World, join_world, leave_world
from lingbot_va_core.training.episodes import load_mixture, open_sources
from lingbot_va_core.training.policy_training import PolicyTask
from lingbot_va_core.training.settings import PolicySettings, read_settings
from lingbot_va_core.training.trainer import train
from lingbot_va_core.world_model import skeleton

SETTINGS = {
    'run': {'steps': 6, 'batch': 2, 'accumulate': 2, 'save_every': 2, 'log_every': 1, 'evaluate_every': 6,
            'evaluate_batches': 2, 'precision': 'float32'},
    'optimizer': {'lr': 0.01, 'warmup': 2, 'ema': 0.9},
    'clips': {'frames': 5, 'largest_chunk': 2, 'holdout': 0.34},
    'rollout': {'attn_window': 4},
}  # fmt: skip


def build_model(profile: RobotProfile, mixture: bool = True) -> WorldModel:
    """Two layers of width 32, with views as the tiny model has them."""
    transformer = replace(
        TINY.transformer,
        num_layers=2,
        num_heads=2,
        head_dim=16,
        video=ExpertConfig(32, 48),
        action=ExpertConfig(16, 32) if mixture else None,
        latent_channels=4,
        text_dim=12,
        freq_dim=16,
    )
    vae = replace(TINY.vae, latent_channels=4, widths=(8, 8, 16))
    config = ModelConfig('small', transformer, vae, TINY.rollout, TextConfig('hashed', 4))
    model = skeleton('small', config, ActionNormalizer.from_profile(profile), torch.device('cpu'), torch.float32)
    generator = torch.Generator().manual_seed(0)
    model.transformer.to_empty(device='cpu')
    initialize_transformer(model.transformer, generator)
    initialize_vae(model.vae.to_empty(device='cpu'), generator)
    model.transformer.requires_grad_(False)
    model.vae.requires_grad_(False)
    return model


def settings(*overrides: str) -> PolicySettings:
    """Six steps on clips of five frames."""
    return read_settings(PolicySettings, SETTINGS, overrides)


def make_task(
    model: WorldModel,
    datasets: list[tuple[Path, float]],
    cache: Path,
    chosen: PolicySettings,
    world: World | None = None,
) -> PolicyTask:
    """Prepare a run of the policy."""
    sources = open_sources(datasets, chosen.clips)
    config = replace(model.config, rollout=chosen.rollout.apply(model.config.rollout))
    model = replace(model, config=config, normalizer=sources[0].normalizer)
    mixture = load_mixture(sources, model, cache, chosen.clips.holdout)
    return PolicyTask(model, mixture, chosen, world or World(), 'small (trained)')


def train_policy(
    model: WorldModel,
    dataset: Dataset | Path,
    cache: Path,
    folder: Path,
    chosen: PolicySettings,
    world: World | None = None,
) -> PolicyTask:
    """Train; return what was trained."""
    root = dataset.root if isinstance(dataset, Dataset) else dataset
    world = world or World()
    task = make_task(model, [(root, 1.0)], cache, chosen, world)
    train(task, chosen.run, chosen.optimizer, folder, asdict(chosen), world, show=False)
    return task


if __name__ == '__main__':
    # Arguments: data set, cache, folder of the run, overrides.
    torch.set_num_threads(1)
    data, latents, out, *changes = sys.argv[1:]
    processes = join_world('cpu')
    train_policy(
        build_model(load_profile('aloha')), Path(data), Path(latents), Path(out), settings(*changes), processes
    )
    if processes.first:
        print(json.dumps({'processes': processes.size}))
    leave_world()
