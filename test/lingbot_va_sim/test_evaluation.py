"""Evaluation: the same episodes wherever they run, disturbances that happen, success that lasts, honest numbers."""

from collections.abc import Iterator
from dataclasses import replace

import av
import numpy as np
import pytest
from poseable_robot import aloha
from replayed_session import NoLatents, ReplayedSession

from lingbot_va_core.checkpoint import load_model
from lingbot_va_core.command_planner import CommandPlanner
from lingbot_va_core.kinematics import read_kinematics
from lingbot_va_core.pacing import Pacer
from lingbot_va_core.poses import relative_actions
from lingbot_va_core.robot import RobotProfile, load_profile
from lingbot_va_core.virtual_time import VirtualEpisode
from lingbot_va_sim.demonstrations import universal
from lingbot_va_sim.disturbances import DISTURBANCES, Removal, draw_disturbance
from lingbot_va_sim.episode_film import Shown, write_grid
from lingbot_va_sim.evaluation import Episode, Evaluator, Plan, evaluate, with_chunk
from lingbot_va_sim.experts import find_expert
from lingbot_va_sim.plant import SimulatedPlant
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.success import summarize, wilson_interval
from lingbot_va_sim.tasks import LEFT_FINGER, RIGHT_FINGER, Contacts, find_task

CUBE = 'red_box_joint'
SHORT = Plan(modes=('fdm',), episodes=2, seed=7, chunk=1, time_limit_s=0.7, filmed=1)


class NoCameras:
    """Blank images, for episodes that nobody sees."""

    def render(self, camera: str, snapshot: object) -> np.ndarray:
        return np.zeros((2, 2, 3), np.uint8)


@pytest.fixture(scope='module')
def profile() -> RobotProfile:
    return load_profile('aloha')


@pytest.fixture(scope='module')
def plant(profile: RobotProfile) -> Iterator[SimulatedPlant]:
    with Simulation(profile, 'transfer_cube') as simulation:
        yield SimulatedPlant(simulation, NoCameras())


@pytest.fixture(scope='module')
def commands(profile: RobotProfile, plant: SimulatedPlant) -> np.ndarray:
    """What the expert commands from the start of seed 3, without mistakes and noise."""
    plant.begin(3)
    rows = []
    for target, _ in find_expert('aloha', 'transfer_cube')(plant.simulation, np.random.default_rng(3)).run():
        rows.append(target)
        plant.simulation.set_targets(target)
        plant.simulation.step()
    return universal(profile, np.array(rows))


def replay(
    plant: SimulatedPlant, commands: np.ndarray, mode: str, latency_ms: int, disturbance: object = None
) -> VirtualEpisode:
    plant.begin(3, disturbance)
    planner = CommandPlanner(plant.simulation.profile)
    session, pacer = ReplayedSession(commands, 2, mode != 'sync'), Pacer(planner.profile.clock, mode, 20_000_000)
    episode = VirtualEpisode(session, pacer, planner, plant, NoLatents(), latency_ms * 1_000_000, 20_000_000)
    list(episode.run('hand over', 14_000_000_000))
    return episode


@pytest.mark.parametrize(('mode', 'latency_ms'), [('sync', 100), ('sync', 512), ('naive', 512)])
def test_a_good_policy_succeeds_through_clock_filter_and_holds(plant, commands, mode, latency_ms):
    episode = replay(plant, commands, mode, latency_ms)
    assert plant.success and episode.succeeded and plant.stage == 4
    assert plant.steps - plant.held_from == 50


def test_a_nudge_moves_the_cube_during_the_reach(plant, commands):
    starts = []
    for disturbance in (None, draw_disturbance('reach', 3), draw_disturbance('reach', 3)):
        replay(plant, commands, 'naive', 100, disturbance)
        starts.append((plant.disturbed_at, plant.success, plant.simulation.data.qpos.copy()))
    assert starts[0][:2] == (None, True)
    assert starts[1][0] is not None and 10 < starts[1][0] < 200
    assert not starts[1][1]  # who does not look misses it
    assert starts[1][0] == starts[2][0] and np.array_equal(starts[1][2], starts[2][2])


def test_a_nudged_cube_stays_within_the_range_of_starts(plant):
    item = plant.simulation.task.objects[0]
    for seed in range(12):
        nudge = draw_disturbance('reach', seed)
        plant.begin(seed)
        before = plant.simulation.data.joint(CUBE).qpos[:2].copy()
        assert not nudge.step(plant.simulation)
        nudge._nearness = 1.1  # now
        assert nudge.step(plant.simulation) and not nudge.step(plant.simulation)
        for _ in range(50):
            plant.step()
        after = plant.simulation.data.joint(CUBE).qpos[:2]
        assert 0.035 < np.linalg.norm(after - before) < 0.065
        assert (after > np.array(item.low[:2]) - 0.015).all() and (after < np.array(item.high[:2]) + 0.015).all()


def test_a_push_moves_the_tool_for_a_while_and_leaves_nothing_behind(plant):
    data, still = plant.simulation.data, draw_disturbance('tool', 4)
    plant.begin(0, still)
    before, moved = data.body('vx300s_right/gripper_link').xpos.copy(), []
    still._nearness = 1.1  # from the first step on
    for _ in range(60):
        plant.step()
        moved.append(float(np.linalg.norm(data.body('vx300s_right/gripper_link').xpos - before)))
        pushed = plant.steps <= 20
        assert np.linalg.norm(data.xfrc_applied) == pytest.approx(60.0 if pushed else 0.0)
    assert plant.disturbed_at == 1
    assert 0.005 < max(moved) < 0.05 and moved[-1] < 0.002


def test_a_push_does_not_outlast_its_episode(plant):
    ends = []
    for disturbed in (False, True):
        if disturbed:
            shove = draw_disturbance('tool', 0)
            plant.begin(1, shove)
            shove._nearness = 1.1
            plant.step()
            assert plant.simulation.data.xfrc_applied.any()
        plant.begin(2)
        for _ in range(10):
            plant.step()
        ends.append(plant.simulation.data.qpos.copy())
    assert np.array_equal(*ends)


def test_the_expert_overcomes_a_push(plant):
    plant.begin(3, draw_disturbance('tool', 3))
    expert = find_expert('aloha', 'transfer_cube')(plant.simulation, np.random.default_rng(3))
    for target, _ in expert.run():
        plant.command(target)
        plant.step()
    assert plant.disturbed_at is not None and 0 < plant.disturbed_at < 100
    assert plant.simulation.held


def test_a_lifted_cube_is_put_back_on_the_table_once(plant, commands):
    replay(plant, commands, 'naive', 100, Removal(np.random.default_rng(0)))
    assert plant.disturbed_at is not None and plant.disturbed_at > 50
    assert plant.stage < 4 and not plant.success  # who goes on without looking hands over nothing
    cube = plant.simulation.data.joint(CUBE).qpos
    assert cube[2] == pytest.approx(0.02, abs=0.005)


def test_a_cube_that_is_touched_on_the_table_is_left_alone(plant):
    plant.begin(0)
    removal, simulation = Removal(np.random.default_rng(0)), plant.simulation
    assert not removal.step(simulation)
    simulation.reward = 3  # as a finger of the left gripper has it that touches the cube where it stands
    assert not removal.step(simulation)
    simulation.data.joint(CUBE).qpos[2] += 0.03
    assert removal.step(simulation) and not removal.step(simulation)


def test_a_disturbance_gives_an_episode_its_time_anew(monkeypatch):
    class After10(Removal):
        def step(self, simulation):
            self.count = getattr(self, 'count', 0) + 1
            return self.count == 10

    monkeypatch.setitem(DISTURBANCES, 'grasp', After10)
    evaluator = Evaluator(replace(SHORT, disturbance='grasp', filmed=0))
    try:
        episode = evaluator.run('fdm', 0)
    finally:
        evaluator.close()
    assert (episode.disturbed_s, episode.duration_s) == (0.2, pytest.approx(0.9))


def test_the_same_episodes_in_other_processes():
    alone = sorted(evaluate(SHORT, workers=1), key=lambda episode: episode.index)
    together = sorted(evaluate(SHORT, workers=2), key=lambda episode: episode.index)
    assert alone == together
    assert [episode.seed for episode in alone] == [7, 8]
    assert alone[0].chunks >= 1 and alone[0].duration_s == 0.7
    for ours, theirs in zip(alone[0].film.imagined, together[0].film.imagined, strict=True):
        assert ours[0] == theirs[0] and np.array_equal(ours[1], theirs[1])
    assert alone[1].film is None


def test_an_error_in_a_process_reaches_the_caller(tmp_path):
    with pytest.raises(ValueError, match=r'config\.json is missing'):
        list(evaluate(replace(SHORT, modes=('sync', 'fdm'), episodes=1, checkpoint=str(tmp_path)), workers=2))


def test_other_chunks_leave_the_history_as_long(profile):
    model = load_model(None, 'tiny', profile)
    rollout = model.config.rollout
    history = (rollout.attn_window // 2 - 1) * rollout.chunk_frames
    for frames in (1, 2, 3, 4, 8):
        changed = with_chunk(model, frames).config.rollout
        ours = (changed.attn_window // 2 - 1) * changed.chunk_frames
        assert changed.chunk_frames == frames and history <= ours < history + frames


def test_the_video_is_denoised_as_far_as_is_asked_for_and_its_time_is_measured():
    steps = {}
    for s in (None, 1.0):
        evaluator = Evaluator(replace(SHORT, video_s=s, filmed=0))
        try:
            rollout = evaluator.model.config.rollout
            steps[s] = rollout.video_exec_step, rollout.video_s
            times = evaluator.run('fdm', 0).model_ms
        finally:
            evaluator.close()
        assert len(times) == 3 and min(times) > 0
    assert steps == {None: (3, None), 1.0: (None, 1.0)}


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ({'robot': 'nobody'}, "robot 'nobody' is unknown"),
        ({'robot': 'openarm'}, 'transfer_cube is no task of openarm'),
        ({'task': 'juggling'}, "task 'juggling' is unknown"),
        ({'episodes': 0}, '0 episodes from seed 7'),
        ({'seed': -1}, 'seed is -1; it must be from 0'),
        ({'latency_ms': float('nan')}, 'latency_ms is nan; it must be from 0'),
        ({'chunk': 0}, 'chunk is 0; it must be from 1'),
        ({'video_s': 2.0}, 'video_s is 2; it must be from 0'),
        ({'modes': ('async',)}, "mode is 'async'; choose one of sync"),
        ({'disturbance': 'earthquake'}, "disturbance is 'earthquake'; choose one of reach"),
        ({'time_limit_s': 0.0}, 'the time limit is 0 s; it must be above 0'),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        replace(SHORT, **change).check()


def test_a_good_policy_that_predicts_poses_relative_to_the_start_succeeds(commands):
    """The expert's tools, as a checkpoint with relative poses knows them; inverse kinematics finds the joints."""
    profile = aloha(in_action=True, joints_in_action=False)
    kinematics = read_kinematics(profile)
    joints, values = load_profile('aloha').from_universal(commands), np.empty((len(commands), len(profile.channels)))
    for first, side in ((0, 'left'), (8, 'right')):
        own = kinematics.indices[side]
        values[:, first : first + 7] = kinematics.arms[side].poses(joints[:, own])
        values[:, first + 7] = joints[:, own[-1] + 1]
    with Simulation(profile, 'transfer_cube') as simulation:
        plant, planner = SimulatedPlant(simulation, NoCameras()), CommandPlanner(profile)
        plant.begin(3)
        planner.arm(plant.measured())
        origin = profile.to_universal(planner.action)
        relative = relative_actions(profile.to_universal(values), profile.mask, origin)
        session = ReplayedSession(relative, 2, ahead=True)
        pacer = Pacer(profile.clock, 'naive', 20_000_000)
        episode = VirtualEpisode(
            session, pacer, planner, plant, NoLatents(), 100_000_000, 20_000_000, relative_poses=True
        )
        list(episode.run('hand over', 14_000_000_000))
    assert plant.success and episode.refused == ''
    executed = np.concatenate(list(session.executed_actions.values()))[: len(relative)]
    np.testing.assert_allclose(executed[:, :3], relative[: len(executed), :3], atol=0.01)


def test_a_gross_target_ends_the_episode_as_it_does_on_the_robot(plant, commands):
    jump = commands.copy()
    jump[40:, 21] += 4.0  # the right waist, by more than it can in a second
    episode = replay(plant, jump, 'sync', 100)
    assert 'right_waist was to go from' in episode.refused and not plant.success
    assert 40 < plant.steps < 80


def test_a_cube_in_both_hands_is_not_handed_over():
    names = ['red_box', LEFT_FINGER, RIGHT_FINGER]
    task = find_task('transfer_cube')
    both, left = Contacts(names, [(0, 1), (0, 2)]), Contacts(names, [(0, 1)])
    assert task.reward(both) == task.reward(left) == 4
    assert not task.held(both) and task.held(left)


@pytest.mark.parametrize(
    ('successes', 'trials', 'low', 'high'),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (22, 30, 0.5555, 0.8582), (95, 100, 0.8882, 0.9785)],
)
def test_intervals_are_those_of_wilson(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_the_summary_counts_what_happened():
    plan = replace(SHORT, disturbance='reach')
    episodes = [
        Episode('fdm', 2, 9, False, None, 20.0, 4, 30, None, 'a chunk', chunk_frames=1),
        Episode('fdm', 0, 7, True, 6.0, 7.0, 4, 20, 1.5, '', chunk_frames=1),
        Episode('fdm', 1, 8, True, 9.0, 10.0, 4, 20, None, '', chunk_frames=1),
        Episode('fdm', 3, 10, True, 6.3, 7.3, 4, 20, 0.9, '', chunk_frames=1),
    ]
    numbers = summarize(plan, episodes)
    assert (numbers['successes'], numbers['episodes'], numbers['success_rate']) == (3, 4, 0.75)
    assert numbers['completion_s'] == {'mean': 7.1, 'p50': 6.3}
    assert numbers['model_ms'] == {'grounding': None, 'video': None, 'action': None}
    assert (numbers['ever_solved'], numbers['disturbed'], numbers['failed_sessions']) == (4, 2, 1)
    assert [record['seed'] for record in numbers['per_episode']] == [7, 8, 9, 10]
    assert summarize(plan, episodes[:1])['completion_s'] == {'mean': None, 'p50': None}


def test_the_grid_shows_all_episodes_to_the_end_of_the_longest(tmp_path):
    evaluator = Evaluator(SHORT)
    try:
        film = evaluator.run('sync', 0).film
    finally:
        evaluator.close()
    assert [at for at, _ in film.real[:2]] == [0, film.real[1][0]] and film.real[0][1].shape == (96, 144, 3)
    shown = [Shown(film, seconds, seconds < 1, 'seed 7') for seconds in (0.7, 2.2, 1.0, 0.5)]
    write_grid(shown, tmp_path / 'grid.mp4', 80_000_000)
    with av.open(str(tmp_path / 'grid.mp4')) as container:
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    assert len(frames) == 40 and frames[0].shape == (2 * 118, 3 * 292, 3)
    assert [path.name for path in tmp_path.iterdir()] == ['grid.mp4']
    for row, column in ((0, 0), (0, 2), (1, 0)):
        assert frames[-1][118 * row : 118 * row + 96, 292 * column : 292 * column + 144].std() > 10
    assert frames[-1][118:214, 600:].std(axis=(0, 1)).max() < 2  # where there is no episode
