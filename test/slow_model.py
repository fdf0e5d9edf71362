"""A model that takes long for a chunk, on any machine: the tiny one with many denoising steps."""

from dataclasses import replace
from pathlib import Path

import torch

from lingbot_va_core.checkpoint import load_model, save_checkpoint
from lingbot_va_core.robot import RobotProfile
from lingbot_va_ros.inference import warm_up

FEW = 10


def slow_model(folder: Path, profile: RobotProfile, seconds: float) -> str:
    """Save a checkpoint of which one thread needs about so long for a chunk; return its folder."""
    model = load_model(None, 'tiny', profile)
    rollout = model.config.rollout
    model.config = replace(model.config, rollout=replace(rollout, action_steps=FEW))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    step_s = min(warm_up(model, 'fdm') for _ in range(2)) / FEW
    torch.set_num_threads(threads)
    model.config = replace(model.config, rollout=replace(rollout, action_steps=max(round(seconds / step_s), FEW)))
    save_checkpoint(model, folder / 'slow')
    return str(folder / 'slow')
