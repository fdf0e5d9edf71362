"""The action expert's first weights, from the trained video expert: interpolated to the smaller width and rescaled."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lingbot_va_core.config import ExpertConfig, TransformerConfig
from lingbot_va_core.transformer import WorldTransformer
from lingbot_va_core.world_model import WorldModel

ACTION_PARTS = ('action_', 'condition_embedder_action.')  # first letters of the action stream's weights


class ExpertError(ValueError):
    """A model that an action expert cannot be derived for."""


@torch.no_grad()
def with_action_expert(model: WorldModel, expert: ExpertConfig | None = None) -> WorldModel:
    """Give a model of one shared expert an action expert of its own, to be post-trained as Mixture-of-Transformers.

    The video stream keeps its weights: the same tensors, not copies, so that memory grows by the new expert alone. The
    action stream's blocks and output table are derived as `initialize_action_expert` does, but its time embedder,
    action embedder and head from those that the shared model has learned for actions, by the same rule. The text
    embedder is the video stream's, as the shared blocks have seen no other.

    Args:
        model: shared; not changed.
        expert: sizes of the action expert; None: `quarter`.

    Raises:
        ExpertError: the model has an action expert already.
        ConfigError: the expert's sizes do not go with the model.
    """
    shared = model.transformer
    if shared.config.action is not None:
        raise ExpertError(f"model '{model.name}' has an action expert already; give one that has a shared expert")
    config = replace(shared.config, action=expert or quarter(shared.config))
    with torch.device('meta'):
        transformer = WorldTransformer(config).to(model.dtype)
    video = {name: weight for name, weight in shared.state_dict().items() if not name.startswith(ACTION_PARTS)}
    action = {
        name: torch.empty_like(weight, device=model.device)
        for name, weight in transformer.state_dict().items()
        if name not in video
    }
    transformer.load_state_dict({**video, **action}, assign=True)
    initialize_action_expert(transformer)
    embedder = transformer.condition_embedder_action
    for ours, learned in (
        (embedder, shared.condition_embedder_action),
        (embedder.text_embedder, shared.condition_embedder.text_embedder),
        (transformer.action_embedder, shared.action_embedder),
        (transformer.action_proj_out, shared.action_proj_out),
    ):
        _derive(ours, learned)
    return replace(
        model,
        name=f'{model.name}-mot',
        config=replace(model.config, name=f'{model.config.name}-mot', transformer=config),
        transformer=transformer.eval().requires_grad_(False),
    )


def quarter(config: TransformerConfig) -> ExpertConfig:
    """A quarter of the video expert's sizes, as in the paper: width 768 of 3072."""
    return ExpertConfig(config.num_heads * max(config.head_dim // 4, 1), max(config.video.ffn_width // 4, 1))


@torch.no_grad()
def initialize_action_expert(transformer: WorldTransformer) -> None:
    """Derive the action stream's blocks, time and text embedders and output table from those of the video stream.

    Every axis that is shorter in the action expert is interpolated, and linear weights are scaled by
    sqrt(inputs of the video expert / inputs of the action expert), which is sqrt(d_v / d_a) wherever the input is the
    residual stream, so that inputs of unit variance give outputs of the same variance as there. Where the input keeps
    its length (heads of the joint attention, timestep features, text embeddings) the factor is 1; behind the
    feed-forward layer's activation it is the ratio of the two hidden widths. Biases, norm weights and modulation tables
    are added to or multiplied with single channels and need no factor.

    The action embedder and head have no counterpart in the video stream and are left as they are. Nothing happens when
    both streams share one expert; `with_action_expert` gives such a model one.
    """
    if transformer.config.action is None:
        return
    pairs = [
        *zip(transformer.action_blocks, transformer.blocks, strict=True),
        (transformer.condition_embedder_action, transformer.condition_embedder),
    ]
    for expert, source in pairs:
        _derive(expert, source)
    transformer.action_scale_shift_table.copy_(
        interpolate(transformer.scale_shift_table, transformer.action_scale_shift_table.shape)
    )


def interpolate(weight: Tensor, shape: torch.Size) -> Tensor:
    """Resize a weight linearly along its last two axes, keeping the mean and the spread of its elements, in float32.

    Interpolation averages neighbours, which are not alike in a network, and so shrinks the spread. Equal parts of an
    axis (heads, the six vectors of `time_proj`) stay in their places, as positions are mapped in proportion. Rows of a
    modulation table, [1, m, width], are resized one by one.
    """
    weight = weight.float()
    if weight.shape == shape:
        return weight
    if weight.dim() == 2:
        resized = F.interpolate(weight[None, None], size=tuple(shape), mode='bilinear', align_corners=False)[0, 0]
        axes = (-2, -1)
    else:
        rows = weight.reshape(1, -1, weight.shape[-1])
        resized = F.interpolate(rows, size=shape[-1], mode='linear', align_corners=False).reshape(shape)
        axes = (-1,)
    spread, shrunk = (x.std(dim=axes, keepdim=True, correction=0) for x in (weight, resized))
    centre, shifted = (x.mean(dim=axes, keepdim=True) for x in (weight, resized))
    return centre + (resized - shifted) * (spread / shrunk.clamp_min(torch.finfo(torch.float32).tiny))


def _derive(expert: nn.Module, source: nn.Module) -> None:
    sources = dict(source.named_modules())
    for name, module in expert.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            original, shape = getattr(sources[name], key), parameter.shape
            if name == 'time_proj' and key == 'bias':  # six vectors, each with a mean of its own
                original, shape = original.view(1, 6, -1), parameter.view(1, 6, -1).shape
            values = interpolate(original, shape).view_as(parameter)
            if isinstance(module, nn.Linear) and key == 'weight':
                values *= math.sqrt(original.shape[1] / parameter.shape[1])
            parameter.copy_(values)
