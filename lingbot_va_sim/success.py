"""From episodes to numbers: how often, how sure, how fast."""

from collections.abc import Sequence
from dataclasses import asdict
from math import sqrt
from typing import Any

import numpy as np

from lingbot_va_sim.evaluation import Episode, Plan
from lingbot_va_sim.tasks import MAX_REWARD

CONFIDENCE_Z = 1.959964  # 95 %, two-sided


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a rate, by its score (Wilson, JASA 22, 1927)."""
    rate, z2 = successes / trials, CONFIDENCE_Z**2
    middle = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = CONFIDENCE_Z / (1 + z2 / trials) * sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def summarize(plan: Plan, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return the numbers of one mode, JSON types alone; at least one episode."""
    episodes = sorted(episodes, key=lambda episode: episode.index)
    successes = sum(episode.success for episode in episodes)
    times = [episode.completion_s for episode in episodes if episode.success]
    return {
        'success_rate': round(successes / len(episodes), 4),
        'successes': successes,
        'episodes': len(episodes),
        'confidence_95': [round(bound, 4) for bound in wilson_interval(successes, len(episodes))],
        'completion_s': {
            'mean': round(float(np.mean(times)), 3) if times else None,
            'p50': round(float(np.median(times)), 3) if times else None,
        },
        'ever_solved': sum(episode.stage == MAX_REWARD for episode in episodes),
        'disturbed': sum(episode.disturbed_s is not None for episode in episodes),
        'failed_sessions': sum(bool(episode.problem) for episode in episodes),
        'mode': episodes[0].mode,
        'latency_ms': plan.latency_ms,
        'video_s': plan.video_s,
        'model_ms': _model_ms([episode.model_ms for episode in episodes if episode.model_ms]),
        'chunk': episodes[0].chunk_frames,
        'seed': plan.seed,
        'robot': plan.robot,
        'task': plan.task,
        'disturbance': plan.disturbance,
        'time_limit_s': plan.time_limit_s,
        'checkpoint': plan.checkpoint,
        'model': episodes[0].model,
        'seconds_per_episode': round(float(np.mean([episode.wall_s for episode in episodes])), 3),
        'per_episode': [_record(episode) for episode in episodes],
    }


def _model_ms(times: Sequence[tuple[float, float, float]]) -> dict[str, float | None]:
    """Return the medians over episodes of what a chunk took to compute on one thread, beside the other processes."""
    names = ('grounding', 'video', 'action')
    return dict(zip(names, np.median(times, axis=0).round(1).tolist() if times else (None,) * 3, strict=True))


def _record(episode: Episode) -> dict[str, Any]:
    left_out = ('mode', 'model', 'chunk_frames', 'wall_s', 'model_ms', 'film')  # the same for all, or of this machine
    return {name: value for name, value in asdict(episode).items() if name not in left_out}
