"""The parameters that choose a model, and loading it the same way in every node that runs a part of it."""

import torch
from rcl_interfaces.msg import ParameterDescriptor

from lingbot_va_core.checkpoint import WorldModel, load_model
from lingbot_va_core.devices import AUTO, DTYPES, dtype_of, usable_device
from lingbot_va_core.robot import RobotProfile, load_profile
from lingbot_va_core.shipped import Choice, choose_checkpoint
from lingbot_va_ros.managed_node import ManagedNode, Parameter

MODEL_PARAMETERS = (
    Parameter('preset', 'tiny', 'Configuration of an untrained model, where no checkpoint is given.'),
    Parameter(
        'checkpoint',
        AUTO,
        'Folder or Hub id; auto: the one in the box if it is for this robot, else none: an untrained model.',
    ),
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


def declare_choice(node: ManagedNode) -> None:
    """Declare `chosen_checkpoint`, which says what the others come to; empty: an untrained model."""
    try:
        chosen = choice(node, load_profile(node.value('robot'))).checkpoint or ''
    except ValueError:  # configuring says why
        chosen = ''
    descriptor = ParameterDescriptor(description='The checkpoint that runs; empty: none.', read_only=True)
    node.declare_parameter('chosen_checkpoint', chosen, descriptor)


def choice(node: ManagedNode, profile: RobotProfile) -> Choice:
    """Return which checkpoint the node's parameters come to; raises CheckpointError, see `choose_checkpoint`."""
    return choose_checkpoint(node.value('checkpoint'), node.value('preset'), profile.name)


def load(node: ManagedNode, profile: RobotProfile, part: str) -> WorldModel:
    """Load the 'transformer' or the 'vae' of the model that the node's parameters name; the other takes no memory.

    Raises:
        CheckpointError, ConfigError: see `load_model`.
        DeviceError: this machine lacks the device.
    """
    torch.set_num_threads(node.value('torch_threads'))
    device = usable_device(node.value('device'))
    return load_model(
        choice(node, profile).checkpoint,
        node.value('preset'),
        profile,
        seed=node.value('model_seed'),
        device=device,
        dtype=dtype_of(node.value('dtype'), device),
        parts=(part,),
    )
