"""`ros2 bag record` as we would start it, and what becomes of the bags that it leaves."""

import os
import shutil
from argparse import ArgumentParser
from pathlib import Path

import pytest
import yaml
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from recorded_episode import INSTRUCTION, PROFILE

from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.robot import load_profile, parse_profile, profile_path
from lingbot_va_ros import cli
from lingbot_va_ros.bag import Bag
from lingbot_va_ros.bag_audit import audit
from lingbot_va_ros.launch_arguments import RECORD
from lingbot_va_ros.recorded_topics import recorded_topics
from lingbot_va_ros.rosbag2_command import rosbag2_recording

SHORT_KEYS = {'history': HistoryPolicy, 'reliability': ReliabilityPolicy, 'durability': DurabilityPolicy}


def recording(folder: Path, release: str = 'jazzy', **given: str) -> list[str]:
    """The command for a bag in a folder."""
    values = {each.name: each.default for each in RECORD} | {'recorder': 'rosbag2', **given}
    return rosbag2_recording(values, folder / 'bag', release)


def option(command: list[str], name: str) -> list[str]:
    """The values of an option."""
    rest = command[command.index(name) + 1 :]
    return rest[: next((i for i, word in enumerate(rest) if word.startswith('--')), len(rest))]


def custom_data(command: list[str]) -> dict[str, str]:
    """What the tool takes from --custom-data: of each word what is before, and between, its equals signs."""
    return {word.split('=')[0]: word.split('=')[1] for word in option(command, '--custom-data')}


def test_it_records_the_topics_of_the_graph_in_its_namespace(tmp_path: Path) -> None:
    topics = option(recording(tmp_path, namespace='/left/cell/'), '--topics')
    assert topics == [
        topic.name if topic.name.startswith('/') else f'/left/cell/{topic.name}' for topic in recorded_topics(PROFILE)
    ]
    assert {'/clock', '/diagnostics', '/left/cell/episode'} <= set(topics)
    assert '/episode' in option(recording(tmp_path), '--topics')


def test_the_command_says_where_how_and_for_how_long(tmp_path: Path) -> None:
    plain = recording(tmp_path)
    assert plain[:3] == ['ros2', 'bag', 'record']
    assert option(plain, '--storage') == ['mcap'] and option(plain, '--output') == [str(tmp_path / 'bag')]
    assert '--use-sim-time' not in plain
    timed = recording(tmp_path, duration='2.5', use_sim_time='true')
    assert [word for word in timed if word not in plain] == [*timed[:5], '--use-sim-time']
    assert timed[0] == 'timeout' and timed[3:6] == ['--signal=INT', '2.5', 'ros2']


def test_humble_knows_its_topics_by_their_place_and_no_notes(tmp_path: Path) -> None:
    humble, jazzy = recording(tmp_path, 'humble'), recording(tmp_path)
    topics = option(jazzy, '--topics')
    assert humble[3 : 3 + len(topics)] == topics and humble[3 + len(topics)] == '--storage'
    assert {word for word in humble if word.startswith('--')} == {
        word for word in jazzy if word.startswith('--')
    } - {'--topics', '--custom-data'}  # fmt: skip


def test_the_subscriptions_hear_what_the_graph_publishes(tmp_path: Path) -> None:
    command = recording(tmp_path)
    (file,) = option(command, '--qos-profile-overrides-path')
    overrides = yaml.safe_load(Path(file).read_text())
    assert list(overrides) == option(command, '--topics')
    for topic, policies in zip(recorded_topics(PROFILE), overrides.values(), strict=True):
        read = {
            name: SHORT_KEYS[name].get_from_short_key(value) if name in SHORT_KEYS else value
            for name, value in policies.items()
        }
        heard = QoSProfile(**read)
        assert qos_check_compatible(topic.qos, heard)[0] != QoSCompatibility.ERROR, topic.name
        assert (heard.reliability, heard.durability) == (topic.qos.reliability, topic.qos.durability)
        assert heard.history == HistoryPolicy.KEEP_LAST and heard.depth > topic.qos.depth
    assert overrides['/episode']['durability'] == 'transient_local', 'what was announced before is heard'


def test_ros2_bag_takes_the_options_and_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verb = pytest.importorskip('ros2bag.verb.record', reason='ros2bag comes with ROS 2')
    from ros2bag.api import convert_yaml_to_qos_profile

    command = recording(tmp_path, os.environ['ROS_DISTRO'], use_sim_time='true')
    monkeypatch.setattr('sys.argv', command[2:])  # in which it looks for --storage
    parser = ArgumentParser()
    verb.RecordVerb().add_arguments(parser, 'ros2 bag')
    args = parser.parse_args(command[3:])
    overrides = convert_yaml_to_qos_profile(yaml.safe_load(args.qos_profile_overrides_path))
    assert list(overrides) == args.topics
    assert args.storage == 'mcap' and args.use_sim_time


@pytest.mark.parametrize(
    ('given', 'reason'),
    [
        ({'robot': 'nobody'}, "robot 'nobody' is unknown"),
        ({'use_sim_time': 'maybe'}, "use_sim_time is 'maybe'; it must be true or false"),
        ({'duration': '1 minute'}, "duration is '1 minute'; it must be a number of seconds above 0"),
        ({'duration': '0'}, "duration is '0'; it must be a number of seconds above 0"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(
    tmp_path: Path, given: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        recording(tmp_path, **given)
    assert list(tmp_path.iterdir()) == []


def test_a_bag_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / 'bag').mkdir()
    with pytest.raises(ValueError, match='bag exists already; remove it or choose another place'):
        recording(tmp_path)


def test_a_profile_with_equals_signs_is_noted_whole(tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    text = profile_path('aloha').read_text().replace('description: ', 'description: reach=0.8, ')
    file.write_text(f'# a = b\n{text}')
    notes = custom_data(recording(tmp_path, robot=str(file), namespace='cell'))
    assert (notes['robot'], notes['namespace']) == ('aloha', 'cell')
    assert parse_profile(notes['profile'], 'notes', tmp_path) == load_profile(str(file))
    assert 'reach=0.8' in load_profile(str(file)).description


def rosbag2_bag(driven_bag: Path, path: Path, notes: dict[str, str] | None) -> Path:
    """Copy a bag of our graph as if rosbag2 had recorded it: the topics, no marks, and these notes at most."""
    shutil.copytree(driven_bag, path)
    file = path / 'metadata.yaml'
    document = yaml.safe_load(file.read_text())
    document['rosbag2_bagfile_information']['custom_data'] = notes
    file.write_text(yaml.safe_dump(document))
    return path


def test_a_bag_of_rosbag2_converts_and_its_audit_says_what_is_missing(
    driven_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    noted = rosbag2_bag(driven_bag, tmp_path / 'bag', custom_data(recording(tmp_path)))
    bare = rosbag2_bag(driven_bag, tmp_path / 'bare', None)
    with Bag(bare) as opened:
        assert not opened.has('recording_events') and not opened.has('recording_notes')
        report = audit(opened, 'aloha')
    assert report['usable'] and not report['teleoperated']
    assert [row['dropped'] for row in report['topics'].values()] == [None] * len(report['topics'])
    assert [reason for reason in report['reasons'] if 'did not note whether it dropped messages' in reason]
    assert cli.main(['convert', '--check', str(bare)]) == 2
    assert 'names no robot profile; give one with --robot' in capsys.readouterr().err
    with Bag(noted) as opened:
        assert opened.profile().joints == PROFILE.joints and opened.profile().cameras == PROFILE.cameras

    out = str(tmp_path / 'data')
    assert cli.main(['convert', str(bare), '--robot', 'aloha', '--workers', '1', '--out', out]) == 0
    (episode,) = Dataset(Path(out))
    assert episode.instruction == INSTRUCTION and episode.attributes['outcome'] is None
