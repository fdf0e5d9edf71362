"""A dead-man switch: motion only while it is held."""

import numpy as np
from action_stage import Stage, chunk_of, motion, positions, ramp

from lingbot_va_msgs.msg import ActionState

PARAMETERS = {'require_enable': True, 'enable_timeout_s': 0.25}


def test_motion_lasts_as_long_as_the_switch_is_held(stage: Stage) -> None:
    assert stage.wait_for_state(ActionState.PAUSED).reason == 'not enabled'
    stage.begin()
    begin = len(stage.commands)
    stage.send(chunk_of(ramp(0.8, 2)))
    still = positions(stage.wait_for_commands(20))
    np.testing.assert_array_equal(still, np.tile(still[0], (len(still), 1)))

    holding = stage.graph.node.create_timer(0.05, lambda: stage.say('enable', True))
    stage.wait_for_state(ActionState.MOVING)
    stage.wait_for_commands(12)
    holding.cancel()  # the switch, or its cable, is let go without a word
    stage.graph.wait_for(lambda: stage.states[-1].reason == 'enable has not been renewed in time', what='the pause')
    stage.wait_for_commands(15)
    assert abs(np.diff(positions(stage.commands[-5:])[:, 0])).max() == 0

    holding.reset()
    stage.graph.wait_for(lambda: len(stage.executed) == 2, what='the whole motion')
    speeds, accelerations = motion(stage.commands[begin:])
    assert speeds[:, 0].min() >= -1e-4
    assert abs(accelerations[:, 0]).max() <= 20.0 * 1.01
    holding.cancel()
    stage.say('enable', False)
    stage.graph.wait_for(lambda: stage.states[-1].reason == 'not enabled', what='the word')
