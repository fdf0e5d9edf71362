"""Agreement with rollouts of the released inference code, see test/data/golden/README.md."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from lingbot_va_core.checkpoint import WorldModel, load_weights
from lingbot_va_core.config import ExpertConfig, ModelConfig, RolloutConfig, TransformerConfig, VAEConfig
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.session import Session
from lingbot_va_core.text import HashedTextEncoder
from lingbot_va_core.transformer import WorldTransformer
from lingbot_va_core.vae import TinyVAE

GOLDEN = Path(__file__).resolve().parents[1] / 'data' / 'golden'
TOLERANCE = 1e-4


def model_config(document: dict) -> ModelConfig:
    """Translate a released configuration; the VAE is not part of this test."""
    transformer, rollout = document['transformer'], document['rollout']
    heads, head_dim = transformer['num_attention_heads'], transformer['attention_head_dim']
    return ModelConfig(
        name='golden',
        transformer=TransformerConfig(
            num_layers=transformer['num_layers'],
            num_heads=heads,
            head_dim=head_dim,
            video=ExpertConfig(heads * head_dim, transformer['ffn_dim']),
            action=None,
            latent_channels=transformer['in_channels'],
            patch_size=tuple(transformer['patch_size']),
            text_dim=transformer['text_dim'],
            freq_dim=transformer['freq_dim'],
            eps=transformer['eps'],
        ),
        vae=VAEConfig('tiny', transformer['in_channels'], (8, 8, 8)),
        rollout=RolloutConfig(
            height=rollout['height'],
            width=rollout['width'],
            camera_layout='width',
            cameras=len(rollout['obs_cam_keys']),
            chunk_frames=rollout['frame_chunk_size'],
            actions_per_latent=rollout['action_per_frame'],
            video_steps=rollout['num_inference_steps'],
            action_steps=rollout['action_num_inference_steps'],
            attn_window=rollout['attn_window'],
            video_guidance=rollout['guidance_scale'],
            action_guidance=rollout['action_guidance_scale'],
            video_shift=rollout['snr_shift'],
            action_shift=rollout['action_snr_shift'],
            video_exec_step=rollout['video_exec_step'] if rollout['video_exec_step'] > 0 else None,
        ),
    )


def golden_model(folder: Path, document: dict) -> WorldModel:
    config = model_config(document)
    with torch.device('meta'):
        transformer, vae = WorldTransformer(config.transformer), TinyVAE(config.vae)
    load_weights(transformer, folder / 'transformer.safetensors', torch.device('cpu'), torch.float32)
    used = document['rollout']['used_action_channel_ids']
    statistics = document['norm_stat']
    normalizer = ActionNormalizer(
        tuple(statistics['q01']), tuple(statistics['q99']), tuple(channel in used for channel in range(30))
    )
    text = HashedTextEncoder(config.transformer.text_dim)
    return WorldModel('golden', config, transformer, vae, text, normalizer, torch.device('cpu'), torch.float32)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize('name', ['width3', 'partial'])
def test_every_cycle_agrees_with_the_released_code(name: str) -> None:
    folder = GOLDEN / name
    document = json.loads((folder / 'config.json').read_text())
    rollout = load_file(folder / 'rollout.safetensors')
    model = golden_model(folder, document)
    used, frames = document['rollout']['used_action_channel_ids'], model.config.rollout.chunk_frames
    session = Session(model)
    session.start('replaced by the recorded embeddings')
    texts = [rollout['prompt_embeds'], rollout['negative_prompt_embeds']]
    if max(model.config.rollout.video_guidance, model.config.rollout.action_guidance) == 1:
        texts = texts[:1]
    session.set_text_embeddings(torch.cat([F.pad(text, (0, 0, 0, 512 - text.shape[1])) for text in texts]))

    session.observe(0, rollout['real_latents'][:, 0])
    for cycle in range(document['cycles']):
        chunk = session.predict(
            rollout[f'cycle{cycle}.noise.video'][0], rollout[f'cycle{cycle}.noise.action'][0, ..., 0].permute(1, 2, 0)
        )
        given = 1 if cycle == 0 else 0  # frame 0 is the observation and is not executed
        latents = rollout[f'cycle{cycle}.out.latents'][0].transpose(0, 1)[given:]
        actions = rollout[f'cycle{cycle}.out.actions'].permute(1, 2, 0)[given:]
        assert relative_error(chunk.latents, latents) < TOLERANCE
        assert relative_error(torch.from_numpy(chunk.actions)[..., used], actions) < TOLERANCE

        for index, frame in enumerate(actions, start=chunk.first_latent_index):
            if index >= rollout['real_latents'].shape[1]:
                break
            executed = torch.zeros(frame.shape[0], 30)
            executed[:, used] = frame
            session.observe(index, rollout['real_latents'][:, index])
            session.executed(index, executed)
        assert chunk.first_latent_index == (cycle * frames or 1)
