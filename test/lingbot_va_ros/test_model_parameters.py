"""Which model the nodes load, and what they say of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import node_of

from lingbot_va_core import shipped
from lingbot_va_core.checkpoint import load_model, save_checkpoint
from lingbot_va_core.robot import load_profile
from lingbot_va_msgs.action import RunTask
from lingbot_va_ros.conversions import to_duration
from lingbot_va_ros.model_parameters import dtype_of
from lingbot_va_ros.perception_node import PerceptionNode
from lingbot_va_ros.world_model_node import WorldModelNode

pytestmark = pytest.mark.patient  # no node is spun
DATA = {'name': 'cubes', 'robot': 'aloha', 'episodes': 1, 'seeds': None, 'minutes': 1.0, 'weight': 1.0}
RUN = {'what': 'policy', 'robot': 'aloha', 'datasets': [{**DATA, 'instructions': ['hand it over']}]}


@pytest.fixture(scope='module')
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A share folder with a checkpoint for aloha; its folder."""
    root = tmp_path_factory.mktemp('share')
    model = load_model(None, 'tiny', load_profile('aloha'), seed=3)
    save_checkpoint(replace(model, name='in the box', training=(RUN,)), root / 'checkpoints' / 'tiny')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped, 'share_dir', lambda: root)
        yield root / 'checkpoints' / 'tiny'


@pytest.mark.parametrize(
    ('choice', 'device', 'expected'),
    [
        ('auto', 'cpu', torch.float32),
        ('auto', 'cuda:0', torch.bfloat16),
        ('bfloat16', 'cpu', torch.bfloat16),
        ('float32', 'cuda:0', torch.float32),
    ],
)
def test_the_type_of_the_transformer_follows_the_device_unless_it_is_named(
    choice: str, device: str, expected: torch.dtype
) -> None:
    assert dtype_of(choice, torch.device(device)) == expected


@pytest.mark.parametrize('kind', [PerceptionNode, WorldModelNode])
def test_a_node_says_which_checkpoint_it_chose(box: Path, kind: type) -> None:
    for parameters, chosen in (
        ([], str(box)),
        (['checkpoint:=auto', 'robot:=openarm'], ''),
        (['checkpoint:=none'], ''),
        (['checkpoint:=my/own'], 'my/own'),
    ):
        with node_of(kind, *parameters) as node:
            assert node.value('chosen_checkpoint') == chosen


def test_the_world_model_runs_the_checkpoint_in_the_box_and_warns_of_other_tasks(
    box: Path, capfd: pytest.CaptureFixture
) -> None:
    with node_of(WorldModelNode) as node:
        node.trigger_configure()
        node.trigger_activate()
        assert node._model_name == 'in the box'
        for instruction in ('hand it over', 'dance'):
            node._begin(RunTask.Goal(instruction=instruction, time_limit=to_duration(10**9)))
            node._end(RunTask.Result.FAILED, 'enough')
    said = capfd.readouterr().err
    assert "in the box was trained for 'hand it over', not for 'dance'; expect nothing of it" in said
    assert "not for 'hand it over'" not in said
