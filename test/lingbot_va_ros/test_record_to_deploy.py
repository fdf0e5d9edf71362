"""docs/record_to_deploy.md in small: a demonstration over the graph's topics becomes a model that gives chunks."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import Graph, wait_until
from trajectory_msgs.msg import JointTrajectory

from lingbot_va_core.checkpoint import load_model, save_checkpoint
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.robot import load_profile
from lingbot_va_core.session import Session
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_ros import cli
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.leader import Leader, LeadError, faultless
from lingbot_va_ros.node_table import NODES
from lingbot_va_ros.qos import TRAJECTORY
from lingbot_va_ros.recorder import RECEIVING
from lingbot_va_ros.side_process import SideProcess
from lingbot_va_sim.demonstrations import demonstrate, universal
from lingbot_va_sim.experts import find_expert
from lingbot_va_sim.simulation import Simulation

ROBOT = [spec for spec in NODES if spec.name == 'sim_bridge']
PROFILE = load_profile('aloha')
INSTRUCTION = 'hand the cube over'
SHORT = ['--quiet', '--threads', '1', '--steps', '2', '--set', 'run.batch=1', '--set', 'clips.holdout=0']


def test_what_an_expert_leads_is_what_the_trained_model_was_shown(tmp_path: Path) -> None:
    bag, data, run = (str(tmp_path / name) for name in ('bag', 'data', 'run'))
    with Bringup(ROBOT, {'robot': 'aloha', 'task': 'transfer_cube', 'seed': 0}, log=lambda line: None):
        arguments = ['--out', bag, '--no-latents', '--metadata', f'instruction={INSTRUCTION}']
        said: list[str] = []
        with SideProcess('recorder', 'lingbot_va_ros.recorder', arguments, said.append) as recorder:
            wait_until(lambda: any(RECEIVING in line for line in said), timeout=30, what='what the sensors send')
            assert cli.main(['lead', '--episodes', '1', '--json', str(tmp_path / 'lead.json')]) == 0
            discards_what_a_signal_ends(said)
            recorder.finish()
        leads_no_arms_that_another_commands()
    [led] = json.loads((tmp_path / 'lead.json').read_text())['demonstrations']
    assert (led['seed'], led['solved']) == (1, True)

    assert cli.main(['convert', bag, '--out', data, '--workers', '1']) == 0
    episodes = list(Dataset(Path(data)))  # more than one where a busy machine lost images
    for episode in episodes:
        assert episode.success and episode.instruction == INSTRUCTION
        assert episode.attributes['recorded_episode'] == 1
    compare([episode.actions for episode in episodes])

    save_checkpoint(load_model(None, 'tiny', PROFILE, seed=0), tmp_path / 'start')
    begin = ['--model', str(tmp_path / 'start'), '--cache', str(tmp_path / 'cache')]
    assert cli.main(['train', 'policy', '--dataset', data, *begin, '--out', run, *SHORT]) == 0
    model = load_model(tmp_path / 'run' / 'checkpoint')
    assert model.training[-1]['datasets'][0]['instructions'] == [INSTRUCTION]
    session = Session(model, 'sync', seed=0)
    session.start(INSTRUCTION)
    views = [[episodes[0].images(camera.name, 0, 1)[0] for camera in PROFILE.cameras]]
    [latent] = StreamingEncoder(model.vae, model.config.rollout, len(PROFILE.cameras)).encode(views)
    session.observe(0, latent.numpy())
    chunk = session.predict()
    assert chunk.first_latent_index == 1 and np.isfinite(chunk.actions).all()
    assert chunk.actions[..., PROFILE.mask].std() > 0


def leads_no_arms_that_another_commands() -> None:
    topic = PROFILE.arms[0].output.topic
    with Graph() as graph, Leader() as leader:
        graph.node.create_publisher(JointTrajectory, topic, TRAJECTORY)
        wait_until(lambda: leader._client.node.count_publishers(topic) == 2)
        with pytest.raises(LeadError, match=f'somebody else commands the arms on /{topic}; start the robot alone'):
            leader.lead()


def discards_what_a_signal_ends(said: list[str]) -> None:
    """A demonstration that SIGTERM ends; `said` grows by what the recorder says."""
    before = len(said)
    process = subprocess.Popen([sys.executable, '-m', 'lingbot_va_ros.cli', 'lead', '--episodes', '1'])
    try:
        wait_until(lambda: any('"start"' in line for line in said[before:]), timeout=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
        wait_until(lambda: any('"discard"' in line for line in said[before:]))
    finally:
        process.kill()
        process.wait()
    assert not any('"stop"' in line or '"success"' in line for line in said[before:])


def compare(episodes: list[np.ndarray]) -> None:
    """Rows go along the expert's commands, about one command a row, and together over nearly all of them."""
    with Simulation(PROFILE, 'transfer_cube') as simulation:
        demonstration = demonstrate(simulation, faultless(find_expert('aloha', 'transfer_cube')), 1)
    commands = universal(PROFILE, np.stack(demonstration.executed))
    step = np.linalg.norm(np.diff(commands, axis=0), axis=-1).max()
    apart = [np.linalg.norm(actions[:, None] - commands, axis=-1) for actions in episodes]
    for each in apart:
        reached = each[0] <= step  # commands at which a row can be, when each is 0, 1 or 2 commands behind the last one
        for row in each[1:]:
            reached = np.convolve(reached, np.ones(3, int))[: len(row)].astype(bool) & (row <= step)
        assert reached.any()
    rows = np.concatenate(apart)
    assert (rows.min(axis=0) <= step).mean() > 0.7, 'a busy machine loses images, but not most of them'
    assert 0.6 < len(rows) / len(commands) < 2
