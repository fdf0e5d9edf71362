"""An action node that the tests of a file share; bringing one up takes seconds."""

from collections.abc import Iterator

import pytest
from action_stage import ACTION, HOME, Stage
from support import Graph

from lingbot_va_msgs.msg import ActionState
from lingbot_va_ros.bringup import Bringup


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
    stage.graph.wait_for(lambda: stage.commands, what='the first command')
    stage.end()
    if stage.states[-1].state >= ActionState.FAULT:
        stage.say('e_stop', False)
        stage.measured, stage.follows = HOME, True
        stage.graph.wait_for(lambda: stage.reset().success, what='the reset')
    stage.executed.clear()
    yield stage
