"""The action node alone: how it follows chunks, and what it makes of episodes and its lifecycle."""

import array

import numpy as np
from action_stage import CLOCK, HOME, MS, PROFILE, Stage, chunk_at, chunk_of, motion, positions, ramp
from hostile_chunks import hostile_chunk
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from sample_messages import make_chunk

from lingbot_va_msgs.msg import ActionState, DualArmCommand
from lingbot_va_ros.conversions import to_ns


def test_it_follows_a_chunk_and_reports_what_it_executed(stage: Stage) -> None:
    episode = stage.begin()
    goal = HOME + np.minimum(0.02 * PROFILE.limits('velocity'), 0.02)
    start = stage.now() + 100 * MS
    stage.send(chunk_at(goal), start)
    stage.graph.wait_for(lambda: stage.executed, what='executed actions')
    executed = stage.executed[0]
    assert (executed.episode, executed.latent_index, executed.chunk) == (episode, 1, 0)
    assert abs(to_ns(executed.header.stamp) - start) < 1 * MS
    rows = PROFILE.from_universal(np.array(executed.actions).reshape(16, 30))
    np.testing.assert_allclose(rows[-1], goal, atol=1e-5)
    assert (executed.limited > 0, executed.held) == (True, 0)  # a step is not feasible at once
    # Instants of the cameras: a video period apart, or more where this machine held up the node.
    stamps = [to_ns(stamp) for stamp in executed.video_stamps]
    assert len(stamps) == 4
    assert min(np.diff([start, *stamps])) >= CLOCK.video_ns - 1 * MS
    stage.graph.wait_for(lambda: stage.commands[-1].action_index == DualArmCommand.HOLD, what='the hold at the end')
    np.testing.assert_allclose(positions(stage.commands[-1:])[0], goal, atol=1e-5)
    assert stage.wait_for_state(ActionState.HOLDING).reason == ''


def test_every_command_names_its_chunk_and_action(stage: Stage) -> None:
    stage.begin()
    begin = len(stage.commands)
    stage.send(chunk_of(ramp(0.1, frames=1), index=1, number=4))
    stage.send(chunk_of(ramp(0.1, frames=1, begin=ramp(0.1, frames=1)[-1]), index=2, number=5))
    stage.graph.wait_for(lambda: len(stage.executed) == 2, what='two latent frames')
    played = [(c.chunk, c.action_index) for c in stage.commands[begin:] if c.action_index != DualArmCommand.HOLD]
    assert played == sorted(played)
    assert {chunk for chunk, _ in played} == {4, 5}
    assert [(e.latent_index, e.chunk) for e in stage.executed] == [(1, 4), (2, 5)]
    first, second = stage.executed
    assert to_ns(second.header.stamp) == to_ns(first.video_stamps[-1])  # no gap


def test_a_slower_chunk_takes_longer_and_its_images_are_further_apart(stage: Stage) -> None:
    stage.begin()
    start = stage.now() + 60 * MS
    stage.send(chunk_of(ramp(0.1, frames=1), dt_ns=2 * CLOCK.action_ns), start)
    stage.graph.wait_for(lambda: stage.executed, what='executed actions')
    stamps = [to_ns(stamp) for stamp in stage.executed[0].video_stamps]
    assert min(np.diff([start, *stamps])) >= 2 * CLOCK.video_ns - 1 * MS
    assert to_ns(stage.executed[0].dt) == 2 * CLOCK.action_ns


def test_a_malformed_chunk_is_refused_by_name_and_the_arms_hold(stage: Stage) -> None:
    stage.begin()
    before = int(stage.health().refused_chunks)
    begin = len(stage.commands)
    stage.send(make_chunk(actions=array.array('f', [0.0] * 477)))
    stage.graph.wait_for(lambda: '477 numbers' in stage.health().message, what='the diagnostic')
    assert int(stage.health().refused_chunks) == before + 1
    held = positions(stage.commands[begin:])
    np.testing.assert_allclose(held, np.tile(held[0], (len(held), 1)), atol=1e-6)


def test_a_chunk_of_another_episode_is_ignored(stage: Stage) -> None:
    episode = stage.begin()
    stage.send(chunk_at(HOME + 0.01), episode=episode - 1)
    assert all(command.action_index == DualArmCommand.HOLD for command in stage.wait_for_commands(30))


def test_a_chunk_from_the_far_past_or_future_is_refused(stage: Stage) -> None:
    stage.begin()
    for offset, words in ((-3_000 * MS, 'was to begin'), (60_000 * MS, 'longer waits')):
        stage.send(chunk_at(HOME + 0.01), stage.now() + offset)
        stage.graph.wait_for(lambda words=words: words in stage.health().message, what=words)


def test_a_new_episode_of_the_same_task_stops_the_arms_and_reports_nothing_of_the_old_one(stage: Stage) -> None:
    stage.begin()
    stage.send(chunk_of(ramp(0.8, frames=2)))
    stage.wait_for_state(ActionState.MOVING)
    stage.wait_for_commands(10)
    episode = stage.begin()
    stage.wait_for_state(ActionState.HOLDING)
    after = [command for command in stage.wait_for_commands(60) if command.episode == episode]
    assert {command.action_index for command in after} == {DualArmCommand.HOLD}
    speeds = np.diff(positions(after)[:, 0]) / (CLOCK.action_ns * 1e-9)
    assert abs(speeds[5:]).max() < 1e-3  # at rest 100 ms later
    assert stage.executed == []


def test_hundreds_of_hostile_chunks_over_dds_leave_the_node_ticking(stage: Stage) -> None:
    numbers, outcomes = np.random.default_rng(7), ('chunks', 'refused_chunks', 'ignored_chunks', 'duplicate_chunks')
    before, begin = {name: int(getattr(stage.health(), name)) for name in outcomes}, len(stage.commands)
    episode, sent = stage.begin(), 0

    def total() -> int:
        return sum(int(getattr(stage.health(), name)) - before[name] for name in outcomes)

    while sent < 300:
        if stage.states[-1].state == ActionState.FAULT and stage.reset().success:
            episode = stage.begin()
        for _ in range(2):
            stage._chunks.publish(hostile_chunk(numbers, episode, sent, 1 + sent, stage.now() + 60 * MS))
            sent += 1
        stage.wait_for_commands(1)
    # A busy machine may lose some on the way: queues are short.
    stage.graph.wait_for(lambda: 0.8 * sent <= total() <= sent, what='the account of the chunks')
    assert stage.health().last_refusal
    commands = stage.commands[begin:]
    resting = [k for k in range(1, len(commands)) if commands[k].episode == commands[k - 1].episode]
    assert len(resting) > 50
    values = positions(commands)
    assert np.isfinite(values).all()
    assert (values >= PROFILE.limits('lower') - 1e-5).all()
    assert (values <= PROFILE.limits('upper') + 1e-5).all()


def test_while_inactive_nothing_is_sent_and_impossible_transitions_are_refused(stage: Stage) -> None:
    graph = stage.graph

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return graph.call('action/change_state', ChangeState, request).success

    assert not change(Transition.TRANSITION_CONFIGURE), 'an active node cannot be configured'
    assert change(Transition.TRANSITION_DEACTIVATE)
    count, trajectories = len(stage.commands), len(stage.trajectories)
    assert graph.call('action/get_state', GetState).current_state.label == 'inactive'
    # Whatever was sent before the reply is in by the time of the second reply.
    assert graph.call('action/get_state', GetState).current_state.label == 'inactive'
    settled = (len(stage.commands), len(stage.trajectories))
    assert settled[0] - count <= 2
    assert settled[1] - trajectories <= 2
    refused = stage.reset()
    assert (refused.success, refused.message) == (False, 'the action node is not active')
    assert change(Transition.TRANSITION_CLEANUP)
    graph.wait_for(lambda: graph.node.count_publishers('command') == 0, what='the end of the publisher')
    assert (len(stage.commands), len(stage.trajectories)) == settled
    assert change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_ACTIVATE)
    graph.wait_for(lambda: len(stage.commands) > settled[0], what='commands again')


def test_deactivated_in_the_midst_of_motion_it_brakes_first(stage: Stage) -> None:
    stage.begin()
    stage.send(chunk_of(ramp(1.0, frames=3)))
    stage.wait_for_state(ActionState.MOVING)
    stage.wait_for_commands(10)

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return stage.graph.call('action/change_state', ChangeState, request).success

    assert change(Transition.TRANSITION_DEACTIVATE)
    stage.graph.call('action/get_state', GetState)
    speeds, accelerations = motion(stage.commands[-20:])
    assert abs(accelerations[:, 0]).max() <= 20.0 * 1.01, 'no harder than the limit'
    assert abs(speeds[-1, 0]) <= 20.0 * 0.02 * 1.01, 'what is left is lost within a control period'
    assert change(Transition.TRANSITION_ACTIVATE)
    stage.wait_for_commands(3)
