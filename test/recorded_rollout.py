"""Writes golden folders of any setting: weights, images, noise, and what a session that draws its own noise predicts.

Images take a path of their own to latents, through diffusers' modules, as the released code treats them.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from lingbot_va_core.golden import RecordedText
from lingbot_va_core.initialization import initialize_transformer, initialize_vae
from lingbot_va_core.released import released_model
from lingbot_va_core.session import Session
from lingbot_va_core.transformer import WorldTransformer
from lingbot_va_core.vae import build_vae
from lingbot_va_core.wan_vae import fold
from lingbot_va_core.world_model import WorldModel

CHANNELS = 6
TRANSFORMER = {
    'patch_size': [1, 2, 2], 'num_attention_heads': 2, 'attention_head_dim': 12, 'in_channels': CHANNELS,
    'out_channels': CHANNELS, 'action_dim': 30, 'text_dim': 8, 'freq_dim': 16, 'ffn_dim': 32, 'num_layers': 2,
    'cross_attn_norm': True, 'eps': 1e-6, 'rope_max_seq_len': 1024, 'pos_embed_seq_len': None, 'attn_mode': 'torch',
    '_class_name': 'WanTransformer3DModel',
}  # fmt: skip
VAE = {
    'base_dim': 4, 'decoder_base_dim': 4, 'z_dim': CHANNELS, 'dim_mult': [1, 2, 4, 4], 'num_res_blocks': 1,
    'temperal_downsample': [False, True, True], 'is_residual': True, 'in_channels': 12, 'out_channels': 12,
    'patch_size': 2, 'scale_factor_spatial': 16, 'scale_factor_temporal': 4, 'clip_output': False,
    'latents_mean': [0.1 * i - 0.2 for i in range(CHANNELS)], 'latents_std': [0.2 + 0.1 * i for i in range(CHANNELS)],
}  # fmt: skip
ROLLOUT = {
    'patch_size': [1, 2, 2], 'attn_window': 12, 'frame_chunk_size': 2, 'env_type': 'none', 'height': 64, 'width': 32,
    'action_dim': 30, 'action_per_frame': 3, 'obs_cam_keys': ['high', 'left', 'right'], 'guidance_scale': 1,
    'action_guidance_scale': 1, 'num_inference_steps': 3, 'video_exec_step': -1, 'action_num_inference_steps': 2,
    'snr_shift': 5.0, 'action_snr_shift': 1.0, 'used_action_channel_ids': [14, 15, 28, 21, 22, 29],
    'action_norm_method': 'quantiles',
}  # fmt: skip
NORM_STAT = {'q01': [-0.3 - 0.01 * i for i in range(30)], 'q99': [0.5 + 0.02 * i for i in range(30)]}


def released_document(**rollout: Any) -> dict[str, Any]:
    """The parts of a released configuration, with some rollout settings changed."""
    return {'transformer': TRANSFORMER, 'vae': VAE, 'rollout': {**ROLLOUT, **rollout}, 'norm_stat': NORM_STAT}


def write_rollout(folder: Path, cycles: int = 3, seed: int = 0, **rollout: Any) -> None:
    """Write a golden folder with `cycles` cycles of the given rollout settings."""
    document = released_document(**rollout)
    released = released_model('recorded', **document)
    config, text_dim = released.config, TRANSFORMER['text_dim']
    settings, generator = config.rollout, torch.Generator().manual_seed(seed)
    transformer, vae = WorldTransformer(config.transformer), build_vae(config.vae)
    initialize_transformer(transformer, generator)
    initialize_vae(vae, generator)
    transformer.eval().requires_grad_(False), vae.eval().requires_grad_(False)
    tensors = {name: torch.randn(1, 512, text_dim, generator=generator)
               for name in ('prompt_embeds', 'negative_prompt_embeds')}
    text = RecordedText(tensors['prompt_embeds'], tensors['negative_prompt_embeds'])
    model = WorldModel(
        'recorded', config, transformer, vae, text, released.normalizer, torch.device('cpu'), torch.float32
    )
    session, noise = Session(model, seed=seed), torch.Generator().manual_seed(seed)
    session.start('a prompt')
    eyes = Eyes(vae, document['rollout'])

    def images(name: str, count: int) -> Tensor:
        frames = {c: torch.randint(0, 256, (count, 40 + 9 * i, 52, 3), generator=generator, dtype=torch.uint8)
                  for i, c in enumerate(released.cameras)}
        tensors.update({f'{name}.{c}': f if 'key' in name else f[0] for c, f in frames.items()})
        return eyes.see(frames)

    real = images('cycle0.obs0', 1)
    tensors['cycle0.init_latent'] = init = real[None]
    session.observe(0, real[:, 0])
    size, per_frame, used = settings.chunk_frames, settings.actions_per_latent, list(released.channels)
    still = released.normalizer.denormalize(torch.zeros(1, per_frame, 30))
    for cycle in range(cycles):
        first, given = cycle * size, 1 if cycle == 0 else 0
        if given == size:  # the released code predicts here, too, but all of it is given
            latents, actions = init, still
            video, action = torch.zeros(config.latent_shape)[:, None], torch.zeros(1, per_frame, 30)
        else:
            video = torch.randn(config.latent_shape[0], size, *config.latent_shape[1:], generator=noise)
            action = torch.randn(size, per_frame, 30, generator=noise)
            chunk = session.predict()
            latents = torch.cat([init[:, :, :given], chunk.latents.transpose(0, 1)[None]], dim=2)
            actions = torch.cat([still[:given], torch.from_numpy(chunk.actions)])
        tensors[f'cycle{cycle}.noise.video'] = video[None]
        tensors[f'cycle{cycle}.noise.action'] = action.permute(2, 0, 1)[None, ..., None]
        tensors[f'cycle{cycle}.out.latents'] = latents
        tensors[f'cycle{cycle}.out.actions'] = actions[..., used].permute(2, 0, 1)
        tensors[f'cycle{cycle}.frame_st_id_after'] = torch.tensor(first + size)
        if size > given:
            real = images(f'cycle{cycle}.keyframes', 4 * (size - given))
            for index in range(first + given, first + size):
                session.observe(index, real[:, index - first - given])
                session.executed(index, actions[index - first])

    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'config.json').write_text(json.dumps({**document, 'cycles': cycles}))
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / 'rollout.safetensors')
    save_file(transformer.state_dict(), folder / 'transformer.safetensors')
    save_file(vae.state_dict(), folder / 'vae.safetensors')


class Eyes:
    """Cameras to canvas latents, by hand."""

    def __init__(self, vae: nn.Module, rollout: dict[str, Any]) -> None:
        self._vae, self._rollout = vae, rollout
        self._features: dict[str, list] = {}

    def see(self, frames: dict[str, Tensor]) -> Tensor:
        """Encode uint8 [T, H, W, 3] of each camera; return [C, F, h, w]."""
        height, width, cameras = self._rollout['height'], self._rollout['width'], self._rollout['obs_cam_keys']
        if self._rollout['env_type'] != 'robotwin_tshape':
            return torch.cat([self._encode(c, frames[c], height, width) for c in cameras], dim=-1)
        head, left, right = cameras
        wrists = [self._encode(c, frames[c], height // 2, width // 2) for c in (left, right)]
        return torch.cat([torch.cat(wrists, dim=-1), self._encode(head, frames[head], height, width)], dim=-2)

    def _encode(self, camera: str, frames: Tensor, height: int, width: int) -> Tensor:
        pixels = F.interpolate(frames.float().permute(3, 0, 1, 2), (height, width), mode='bilinear')
        features = self._features.setdefault(camera, [None] * 100)
        folded = fold((pixels / 255 * 2 - 1)[None], 2)
        encoded = self._vae.encoder(folded, feat_cache=features, feat_idx=[0])
        mean = self._vae.quant_conv(encoded)[0, :CHANNELS]
        shape = (-1, 1, 1, 1)
        return (mean - torch.tensor(VAE['latents_mean']).view(shape)) / torch.tensor(VAE['latents_std']).view(shape)
