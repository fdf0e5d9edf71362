"""A recorder in a terminal of its own: episodes by service and by key, and what is noted about the model."""

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader
from std_msgs.msg import String
from std_srvs.srv import Trigger
from support import Graph, wait_until

from lingbot_va_core.checkpoint_digest import checkpoint_digest
from lingbot_va_msgs.msg import Episode
from lingbot_va_ros import qos
from lingbot_va_ros.recording_events import RecordedEpisode, recorded_episodes
from lingbot_va_ros.recording_marks import HELP
from lingbot_va_ros.ros_environment import child_environment

PARAMETERS = {
    'preset': 'tiny',
    'model_seed': 3,
    'device': 'cpu',
    'dtype': 'auto',
    'torch_threads': 2,
    'mode': 'fdm',
    'noise_seed': 5,
}


class Terminal:
    """A recorder in the foreground of a pseudo terminal; `type` presses keys, `said` is what it has printed."""

    def __init__(self, *arguments: str) -> None:
        self.master, self._slave = pty.openpty()
        self.settings = termios.tcgetattr(self._slave)
        self.said = ''
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'lingbot_va_ros.cli', 'record', *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=child_environment(sys.path),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> 'Terminal':
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self.master)

    def type(self, keys: str, answer: str) -> None:
        """Press keys and wait until the recorder has said something new."""
        before = len(self.said)
        os.write(self.master, keys.encode())
        self.wait_for(answer, before)

    def wait_for(self, text: str, after: int = 0) -> None:
        """Wait until it has printed a text."""
        wait_until(lambda: text in self.said[after:], 30, f'"{text}" in "{self.said}"')

    def restored(self) -> bool:
        """Whether the terminal is as it was."""
        return termios.tcgetattr(self._slave) == self.settings

    def _read(self) -> None:
        while True:
            try:
                self.said += os.read(self.master, 4096).decode()
            except OSError:  # closed
                return


@dataclass
class Session:
    """What came of a recording session."""

    bag: Path
    said: str
    restored: bool
    checkpoint: Path
    answers: list[tuple[bool, str]] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    report: dict = field(default_factory=dict)


@pytest.fixture(scope='module')
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One session: an episode by service that succeeds, one by key that is discarded, and one that is left open."""
    folder = tmp_path_factory.mktemp('session')
    checkpoint = folder / 'model'
    checkpoint.mkdir()
    (checkpoint / 'config.json').write_text('{}')
    (checkpoint / 'transformer.safetensors').write_bytes(b'weights')
    arguments = ['--out', str(folder / 'bag'), '--metadata', 'preset=as given', '--json', str(folder / 'report.json')]
    with Graph() as graph, Graph('world_model') as model, Terminal(*arguments) as terminal:
        for name, value in (PARAMETERS | {'chosen_checkpoint': str(checkpoint)}).items():
            model.node.declare_parameter(name, value)
        heard = graph.collect('recording_events', String, qos.LATCHED)
        terminal.wait_for(HELP)
        publisher = graph.node.create_publisher(Episode, 'episode', qos.LATCHED)
        publisher.publish(Episode(episode=4))

        def call(event: str) -> tuple[bool, str]:
            answer = graph.call(f'recorder/{event}', Trigger, timeout=30)
            return answer.success, answer.message

        answers = [call('stop'), call('start'), call('start'), call('success'), call('stop')]
        terminal.type('s', '"start", "episode": 2')
        terminal.type('xd', '"discard", "episode": 2')
        terminal.type('e', 'no episode is open')
        terminal.type('s', '"start", "episode": 3')
        wait_until(lambda: len(heard) == 6, 10)
        notes = graph.collect('recording_notes', String, qos.LATCHED)
        graph.wait_for(lambda: notes and 'weights_sha256' in json.loads(notes[-1].data), 30, 'the notes')
        os.write(terminal.master, b'q')
        assert terminal.process.wait(30) == 0, terminal.said
        report = json.loads((folder / 'report.json').read_text())
        published = [message.data for message in heard]
        yield Session(folder / 'bag', terminal.said, terminal.restored(), checkpoint, answers, published, report)


def texts(bag: Path, topic: str) -> list[str]:
    """The strings of a topic in the bag."""
    with AnyReader([bag]) as reader:
        connections = [connection for connection in reader.connections if connection.topic == topic]
        return [deserialize_message(data, String).data for _, _, data in reader.messages(connections)]


def test_episodes_are_in_the_bag_as_they_were_marked(session: Session) -> None:
    events = texts(session.bag, '/recording_events')
    episodes = recorded_episodes(events)
    assert [(each.number, each.kept, each.success) for each in episodes] == [
        (1, True, True),
        (2, False, None),
        (3, True, None),
    ]
    assert all(each.start_ns < each.end_ns for each in episodes)
    assert len(session.published) >= 6 and session.published == events[: len(session.published)]
    assert json.loads(events[-1])['event'] == 'stop'  # of the episode that was open at the end
    assert [RecordedEpisode(**each) for each in session.report['episodes']] == episodes


def test_services_say_what_they_did_or_why_not(session: Session) -> None:
    assert session.answers == [
        (False, 'stop: no episode is open'),
        (True, 'episode 1: start'),
        (False, 'episode 1 is open; stop it before the next start'),
        (True, 'episode 1: success'),
        (True, 'episode 1: stop'),
    ]


def test_the_terminal_is_as_before(session: Session) -> None:
    assert session.restored


def test_the_bag_says_which_model_drove(session: Session) -> None:
    information = yaml.safe_load((session.bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    notes = information['custom_data']
    assert json.loads(texts(session.bag, '/recording_notes')[-1]).items() <= notes.items()
    assert notes['preset'] == 'as given'
    assert [notes[name] for name in ('model_seed', 'mode', 'noise_seed', 'torch_threads')] == ['3', 'fdm', '5', '2']
    assert notes['checkpoint'] == str(session.checkpoint)
    assert notes['weights_sha256'] == checkpoint_digest(session.checkpoint)
