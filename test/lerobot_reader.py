"""Run by an interpreter that has the lerobot library: opens a data set with its own loader and prints a row as JSON."""

import json
import sys

from lerobot.datasets.lerobot_dataset import LeRobotDataset

period = 0.08
data = LeRobotDataset('local/data', root=sys.argv[1], video_backend='pyav',
                      delta_timestamps={'action': [0.0, period]})
row = data[data.meta.episodes[0]['length'] + 7]
print(json.dumps({
    'episodes': data.num_episodes,
    'rows': len(data),
    'task': row['task'],
    'success': list(data.meta.episodes['success']),
    'action': row['action'][0].tolist(),
    'next': row['action'][1].tolist(),
    'executed': row['executed_action'].tolist(),
    'image': row['observation.images.cam_high'].permute(1, 2, 0).tolist(),
}))
