"""What tests share because making it takes seconds: an action node, and the bag of a model's episode."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from action_stage import ACTION, HOME, Stage
from support import Graph

from lingbot_va_msgs.msg import ActionState
from lingbot_va_ros.bringup import Bringup


@pytest.fixture(scope='module', autouse=True)
def collected() -> Iterator[None]:
    """Let go of the ROS graph after each file.

    A participant lives until its node, which refers to itself, is collected; nodes that became active in this process
    have frozen what was alive then. With too many of them the ports on which others look for participants run out.
    """
    yield
    gc.unfreeze()
    gc.collect()


@pytest.fixture(scope='module')
def shared_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """An active node and its surroundings; `PARAMETERS` of the module are its parameters."""
    parameters = {'action': getattr(request.module, 'PARAMETERS', {})}
    with Graph() as graph:
        stage = Stage(graph)
        with Bringup(ACTION, {'robot': 'aloha'}, node_parameters=parameters, log=lambda line: None):
            yield stage


@pytest.fixture
def stage(shared_stage: Stage) -> Iterator[Stage]:
    """The module's node, armed at home, with nothing to do."""
    stage = shared_stage
    stage.graph.wait_for(lambda: stage.commands and stage.states, what='the first command and state')
    stage.end()
    if stage.states[-1].state >= ActionState.FAULT:
        stage.say('e_stop', False)
        stage.measured, stage.follows = HOME, True
        stage.graph.wait_for(lambda: stage.reset().success, what='the reset')
    stage.executed.clear()
    yield stage


@pytest.fixture(scope='session')
def driven_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bag of an episode that a model drove: see `driven_episode`."""
    from driven_episode import drive

    path = tmp_path_factory.mktemp('driven') / 'bag'
    drive(path)
    return path
