"""Compares what the lerobot library reads in a data set with what ours reads, where that library can be had."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lingbot_va_core.datasets.reader import Dataset

ROW = 2  # of each episode
STEPS = 4  # control periods of a row
LIMIT_S = 240.0


def assert_lerobot_agrees(dataset: Dataset) -> None:
    """Check lengths, statistics, and of each episode a row: signals exactly, images to a level."""
    python = os.environ.get('LEROBOT_PYTHON') or (sys.executable if importlib.util.find_spec('lerobot') else None)
    if python is None:
        pytest.skip('lerobot is not installed; LEROBOT_PYTHON can name an interpreter that has it')
    begins = np.cumsum([0, *(episode.frames for episode in dataset)])
    rows = [str(begin + ROW) for begin in begins[:-1]]
    done = subprocess.run(
        [python, Path(__file__).with_name('lerobot_reader.py'), dataset.root, *rows],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=os.environ | {'HF_HUB_OFFLINE': '1'},
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert (facts['episodes'], facts['rows']) == (len(dataset), begins[-1])
    assert facts['success'] == [episode.success for episode in dataset]
    first, period = STEPS * ROW, slice(STEPS * ROW, STEPS * ROW + STEPS)
    for item, episode in zip(facts['items'], dataset, strict=True):
        assert item['task'] == episode.instruction
        action, following = np.float32(item['action'])
        assert np.array_equal(action, episode.actions[period])
        assert np.array_equal(following, episode.actions[first + STEPS : first + 2 * STEPS])
        assert np.array_equal(np.float32(item['executed']), episode.executed[period])
        assert np.array_equal(np.float32(item['state']), episode.states[first - STEPS + 1 : first + 1])
        for view in dataset.spec.cameras:
            image = np.array(item['images'][f'observation.images.{view.name}']) * 255
            assert np.abs(image - episode.images(view.name, ROW, ROW + 1)[0]).max() <= 1
    padded = np.concatenate([np.concatenate([e.actions, np.repeat(e.actions[-1:], STEPS, axis=0)]) for e in dataset])
    assert np.allclose(facts['mean'], padded.mean(axis=0), atol=1e-5)
