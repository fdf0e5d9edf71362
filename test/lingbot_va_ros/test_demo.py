"""The demo against the real graph: what it leaves behind when it succeeds, fails and is interrupted."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import av
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from lingbot_va_core.datasets.reader import Dataset, Episode
from lingbot_va_core.robot import load_profile
from lingbot_va_ros import cli, viewer
from lingbot_va_ros.bag import Bag, nanoseconds
from lingbot_va_ros.demo_table import FILES
from lingbot_va_ros.images import to_rgb
from lingbot_va_ros.ros_domain import PORT_BASE, PORTS_PER_DOMAIN, free_domain
from lingbot_va_ros.ros_environment import child_environment

pytestmark = pytest.mark.graph
MARK = 'LINGBOT_VA_TEST_RUN'  # an environment variable that all processes of a run inherit
PROFILE = load_profile('aloha')
DEADLINE_S = 240.0  # a machine that runs other tests at the same time
KEYS = {
    'success', 'robot', 'task', 'instruction', 'mode', 'checkpoint', 'episode_s', 'command_rate_hz',
    'command_period_ms', 'chunk_latency_ms', 'chunk_motion_ms', 'chunks', 'starved_ticks', 'held_ticks',
    'images_received', 'images_dropped', 'camera_hz',
}  # fmt: skip


class Demo:
    """A running `lingbot-va demo`."""

    def __init__(self, out: Path, *arguments: str, seconds: float = 30.0) -> None:
        self.mark = uuid.uuid4().hex
        environment = child_environment(sys.path) | {MARK: self.mark}
        for name in ('ROS_DOMAIN_ID', 'DISPLAY', 'WAYLAND_DISPLAY'):
            environment.pop(name, None)
        command = [sys.executable, '-m', 'lingbot_va_ros.cli', 'demo', '--out', str(out), '--seconds', str(seconds)]
        self.process = subprocess.Popen(
            [*command, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.output = ''
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.output or not self._reader.is_alive(), DEADLINE_S), (
                f'never said "{text}":\n{self.output}'
            )
        assert text in self.output

    def finish(self) -> int:
        """Wait for its end and return the exit status; nothing may be left running."""
        status = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self.processes() == {}
        return status

    def processes(self) -> dict[int, str]:
        """Command lines of all living processes of this run, by id."""
        found = {}
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                living = (folder / 'stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
                if living and f'{MARK}={self.mark}'.encode() in (folder / 'environ').read_bytes():
                    found[int(folder.name)] = (folder / 'cmdline').read_text().replace('\0', ' ')
            except OSError:
                continue
        return found

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.output += line
                self._changed.notify_all()


@pytest.fixture
def start(tmp_path):
    """Start demos that do not outlive the test."""
    demos = []

    def start_demo(*arguments: str, **options: float) -> Demo:
        demos.append(Demo(tmp_path / 'demo', *arguments, **options))
        return demos[-1]

    yield start_demo
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()


@pytest.fixture
def earlier(tmp_path):
    """The result of an earlier demo; returns its summary."""
    (tmp_path / 'demo').mkdir()
    summary = tmp_path / 'demo' / 'summary.json'
    summary.write_text('{"robot": "an earlier one"}')
    return summary


def test_demo_leaves_bag_numbers_and_film(start, tmp_path, earlier):
    demo = start('--view', '--json', str(tmp_path / 'copy.json'), seconds=4.0)
    assert demo.finish() == 0, demo.output
    assert 'No live view: there is no screen' in demo.output
    assert sorted(path.name for path in (tmp_path / 'demo').iterdir()) == sorted(FILES)
    summary = json.loads(earlier.read_text())
    assert summary == json.loads((tmp_path / 'copy.json').read_text())
    assert summary.keys() >= KEYS
    assert (summary['task'], summary['mode'], summary['outcome']) == ('transfer_cube', 'fdm', 'time_limit')
    assert 'red cube' in summary['instruction'] and summary['instruction'] in demo.output
    assert 3.9 < summary['episode_s'] < 8
    assert summary['chunks'] >= 1 and summary['command_rate_hz'] > 25
    with AnyReader([tmp_path / 'demo' / 'bag']) as bag:
        counts = {topic: information.msgcount for topic, information in bag.topics.items()}
    assert all(counts[topic] for topic in ('/cam_high/image_raw', '/latents', '/imagined', '/executed_actions'))
    assert counts['/action_chunk'] == summary['chunks']
    assert cli.main(['convert', str(tmp_path / 'demo' / 'bag'), '--workers', '1', '--out', str(tmp_path / 'data')]) == 0
    compare_with_recording(Dataset(tmp_path / 'data')[0], tmp_path / 'demo' / 'bag')
    with av.open(str(tmp_path / 'demo' / 'episode.mp4')) as film:
        frames = sum(1 for _ in film.decode(video=0))
    assert frames >= 0.5 * 12.5 * summary['episode_s']


def compare_with_recording(episode: Episode, path: Path) -> None:
    """Actions are those reported; images and joints are those of the simulation at the instants reported."""
    with Bag(path) as bag:
        number = episode.attributes['episode']
        reports = [m for _, _, m in bag.messages('executed_actions') if m.episode == number]
        stamps = [nanoseconds(stamp) for report in reports for stamp in report.video_stamps]
        joints = [m for _, _, m in bag.messages('joint_states')]
        images = {
            camera.name: {nanoseconds(m.header.stamp): to_rgb(m) for _, _, m in bag.messages(camera.image_topic)}
            for camera in PROFILE.cameras
        }
    assert episode.latent_frames == len(reports) > 0
    wanted = np.stack([report.actions.reshape(16, 30) for report in reports])
    assert np.array_equal(episode.latent_actions(episode.executed), wanted)
    assert episode.attributes['instants_ns'][1:] == stamps
    for camera, taken in images.items():
        for due, shown in zip(episode.attributes['instants_ns'], episode.video(camera), strict=True):
            nearest = min(taken, key=lambda stamp: abs(stamp - due))
            assert np.abs(shown.astype(int) - taken[nearest]).mean() < 3
    times = np.array([nanoseconds(m.header.stamp) for m in joints])
    positions = np.array([m.position for m in joints])[:, list(PROFILE.acting_joints)]
    due = np.array(episode.attributes['instants_ns'])
    measured = [np.interp(due - due[0], times - due[0], column) for column in positions.T]
    assert np.allclose(episode.states[::4, PROFILE.joint_channels].T, measured, atol=1e-6)


def test_a_node_that_dies_ends_the_demo_with_its_name_and_keeps_the_earlier_result(start, tmp_path, earlier):
    demo = start()
    demo.wait_for('All nodes are active')
    [node] = [pid for pid, command in demo.processes().items() if 'world_model_node' in command]
    os.kill(node, signal.SIGKILL)
    assert demo.finish() == 1
    assert demo.output.splitlines()[-1] == 'lingbot-va demo: error: world_model was ended by signal SIGKILL'
    assert 'Traceback' not in demo.output
    assert json.loads(earlier.read_text()) == {'robot': 'an earlier one'}
    assert (tmp_path / 'demo.failed' / 'nodes.log').is_file()


def test_interrupt_leaves_nothing_running_and_nothing_behind(start, tmp_path, earlier):
    demo = start()
    demo.wait_for('All nodes are active')
    demo.process.send_signal(signal.SIGINT)
    assert demo.finish() == 130
    assert 'Traceback' not in demo.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ['demo']
    assert json.loads(earlier.read_text()) == {'robot': 'an earlier one'}


def test_unknown_task_is_bad_input(start):
    demo = start('--task', 'juggle')
    assert demo.finish() == 2
    assert "task is 'juggle'; choose one of transfer_cube, insertion" in demo.output.splitlines()[-1]


@pytest.mark.parametrize(('arguments', 'reason'), [
    (['--seconds', '0'], '--seconds is 0; it must be from 1 to 3600'),
    (['--seconds', 'nan'], '--seconds is nan'),
    (['--no-sim'], 'the demo is a simulation'),
    (['--instruction', ''], '--instruction has 0 bytes'),
    (['--robot', 'nobody'], "robot 'nobody' is unknown"),
    (['--preset', 'nothing'], "preset 'nothing' is unknown"),
    (['--out', '/'], 'holds something else'),
])  # fmt: skip
def test_bad_options_start_nothing(capsys, arguments, reason):
    assert cli.main(['demo', *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_free_domain_is_one_whose_port_is_free(monkeypatch):
    import socket

    from lingbot_va_ros import ros_domain

    domain = free_domain()
    monkeypatch.setattr(ros_domain, 'DOMAINS', range(domain, domain + 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(('', PORT_BASE + PORTS_PER_DOMAIN * domain))
        with pytest.raises(OSError, match='in use'):
            free_domain()


def test_viewer_needs_a_screen_and_its_library(monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    assert 'no screen' in viewer.obstacle()
    monkeypatch.setenv('DISPLAY', ':0')
    monkeypatch.setattr(viewer.importlib.util, 'find_spec', lambda name: None)
    assert 'requirements-view.txt' in viewer.obstacle()
