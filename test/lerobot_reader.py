"""Run by an interpreter that has the lerobot library: opens a data set with its own loader and prints rows as JSON."""

import json
import sys

import lerobot
from lerobot.datasets.lerobot_dataset import LeRobotDataset

PERIOD = 0.08


def item(data: LeRobotDataset, row: int) -> dict:
    """A row as lists, with the actions of the row behind it."""
    found = data[row]
    return {
        'task': found['task'],
        'action': found['action'].tolist(),
        'executed': found['executed_action'].tolist(),
        'state': found['observation.state'].tolist(),
        'images': {key: found[key].permute(1, 2, 0).tolist() for key in data.meta.camera_keys},
    }


opened = LeRobotDataset(
    'local/data', root=sys.argv[1], video_backend='pyav', delta_timestamps={'action': [0.0, PERIOD]}
)
print(json.dumps({
    'version': lerobot.__version__,
    'episodes': opened.num_episodes,
    'rows': len(opened),
    'success': list(opened.meta.episodes['success']),
    'mean': opened.meta.stats['action']['mean'].tolist(),
    'items': [item(opened, int(row)) for row in sys.argv[2:]],
}))  # fmt: skip
