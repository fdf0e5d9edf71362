"""What is saved of a run."""

from pathlib import Path

import pytest
import torch

from lingbot_va_core.training.distributed import World
from lingbot_va_core.training.run_state import load_state, save_state
from lingbot_va_core.training.settings import TrainingError


def test_a_state_with_broken_weights_never_replaces_a_good_one(tmp_path: Path) -> None:
    save_state(tmp_path, 1, {'weight.a': torch.ones(2)}, World())
    with pytest.raises(TrainingError, match=r'weight.a is not finite after step 2; .* the state before is kept'):
        save_state(tmp_path, 2, {'weight.a': torch.tensor([1.0, float('nan')])}, World())
    step, tensors = load_state(tmp_path, World())
    assert step == 1 and torch.equal(tensors['weight.a'], torch.ones(2))
