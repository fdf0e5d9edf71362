"""The parameters that choose a model, and loading it the same way in every node that runs a part of it."""

import torch

from lingbot_va_core.checkpoint import WorldModel, load_model
from lingbot_va_core.devices import AUTO, DTYPES, dtype_of, usable_device
from lingbot_va_core.robot import RobotProfile
from lingbot_va_ros.managed_node import ManagedNode, Parameter

MODEL_PARAMETERS = (
    Parameter('preset', 'tiny', 'Configuration of an untrained model, where no checkpoint is given.'),
    Parameter('checkpoint', '', 'Checkpoint folder; empty: an untrained model from the preset.'),
    Parameter('model_seed', 0, "Seed of an untrained model's weights.", lower=0, upper=2**31 - 1),
    Parameter('device', 'cpu', 'Torch device, such as cpu or cuda:0.'),
    Parameter(
        'dtype',
        AUTO,
        'Of the transformer; auto: bfloat16 on a GPU, float32 on the CPU.',
        choices=(AUTO, *DTYPES),
    ),
    Parameter('torch_threads', 1, 'Threads of one torch operator on the CPU.', lower=1, upper=256),
)


def load(node: ManagedNode, profile: RobotProfile) -> WorldModel:
    """Load the model that the node's parameters name.

    Raises:
        CheckpointError, ConfigError: see `load_model`.
        DeviceError: this machine lacks the device.
    """
    torch.set_num_threads(node.value('torch_threads'))
    device = usable_device(node.value('device'))
    return load_model(
        node.value('checkpoint') or None,
        node.value('preset'),
        profile,
        seed=node.value('model_seed'),
        device=device,
        dtype=dtype_of(node.value('dtype'), device),
    )
