"""Benchmarks of the cache, of the VAE and of the training: what they compare is the same, and counted right."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plain_closed_loop import small_model

from lingbot_va_core.benchmarks.cache import bytes_per_token, measure_cache
from lingbot_va_core.benchmarks.models import build_model, configured
from lingbot_va_core.benchmarks.training import _train, drawn_mixture, tokens_per_clip
from lingbot_va_core.benchmarks.vae import measure_vae
from lingbot_va_core.cache import KVCache
from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.config import ConfigError
from lingbot_va_core.sequence import causal_mask
from lingbot_va_core.training.settings import PolicySettings

CPU = torch.device('cpu')


def test_with_a_window_the_history_grows_no_further(tiny: WorldModel) -> None:
    model = small_model(tiny)
    numbers = measure_cache(model, [1, 2, 10], repeats=2)
    config, held = model.config, [row['tokens'] for row in numbers['histories']]
    full = config.cache_slots - config.chunk_tokens
    assert [tokens['ours'] for tokens in held] == [full] * 3
    assert [tokens['baseline'] for tokens in held] == [full, 2 * full, 10 * full]
    assert numbers['histories'][0]['ratio'] == {'ours': 1.0, 'baseline': 1.0}


def test_the_memory_of_a_token_is_that_of_the_cache(tiny: WorldModel) -> None:
    config = tiny.config.transformer
    for dtype in (torch.float32, torch.bfloat16):
        sizes = [
            KVCache(config.num_layers, 2, config.num_heads, config.head_dim, slots, dtype=dtype, spare=0).nbytes
            for slots in (10, 11)
        ]
        assert bytes_per_token(tiny.config, 2, dtype) == sizes[1] - sizes[0]


@pytest.mark.parametrize('kind', ['tiny', 'wan'])
def test_a_stream_encodes_what_the_clip_encoder_does(kind: str, tiny: WorldModel, small: WorldModel) -> None:
    config = {'tiny': tiny, 'wan': small}[kind].config.vae
    numbers = measure_vae(config, (32, 48), latents=2, repeats=2, device=CPU)
    assert numbers['difference']['agrees']
    assert numbers['latent_ms']['min'] > 0
    assert numbers['frame_ms']['baseline'] == pytest.approx(numbers['clip_ms']['p50'] / 9)


def test_a_view_that_is_no_multiple_is_refused(tiny: WorldModel) -> None:
    with pytest.raises(ConfigError, match='40x48 pixels is no multiple of 16'):
        measure_vae(tiny.config.vae, (40, 48), 1, 1, CPU)


def test_a_training_process_reports_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, os.environ.get(name, ''))
    settings = PolicySettings()
    settings = replace(settings, run=replace(settings.run, batch=1), clips=replace(settings.clips, frames=5))
    _train(0, 1, 0, str(tmp_path), ('tiny', settings, 1, 'cpu', 1))
    report = torch.load(tmp_path / '0', weights_only=True)
    assert report['step_ms']['p50'] > 0
    assert report['memory_mib'] > 50


def test_drawn_episodes_are_long_enough_for_clips() -> None:
    model = build_model(configured('tiny'), CPU, torch.float32, vae=False)
    mixture = drawn_mixture(model, 6)
    (episodes, _), *_ = mixture.trained
    assert all(len(episode.latents) >= 6 for episode in episodes)
    assert not episodes[0].labels[..., ~episodes[0].used].any()
    assert tokens_per_clip(model.config, 6) == len(causal_mask([2, 2, 2], 36, 16, None, CPU))


def test_other_steps_of_the_video_are_all_run() -> None:
    rollout = configured('lingbot-va-mot-5b', video_steps=3, attn_window=None).rollout
    assert (rollout.video_steps, rollout.video_exec_step) == (3, None)
    assert rollout.attn_window == 30
