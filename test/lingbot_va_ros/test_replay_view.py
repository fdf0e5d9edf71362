"""What people see of a recording: the file for Rerun, and the layout and images for Foxglove."""

import array
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from driven_episode import CHUNKS, drive
from PIL import Image
from rclpy.serialization import deserialize_message, serialize_message
from recorded_episode import (
    DELAY,
    LATER,
    ORIGIN,
    PROFILE,
    Chunk,
    RecordedEpisode,
    StartedTwice,
    picture,
    time,
)
from sensor_msgs.msg import JointState

from lingbot_va_core.robot import RobotProfile, load_profile, robot_names
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, LatentFrame, PredictionError, Status
from lingbot_va_ros import cli, viewer
from lingbot_va_ros.bag import Bag, nanoseconds
from lingbot_va_ros.bag_topics import COMPRESSED, IMAGE
from lingbot_va_ros.foxglove_layout import foxglove_layout
from lingbot_va_ros.images import to_rgb
from lingbot_va_ros.imagined_images import image_message
from lingbot_va_ros.imagined_video import imagined_frames
from lingbot_va_ros.recorded_model import load_noted_model
from lingbot_va_ros.recorded_topics import RecordedTopic, imagined_topic, recorded_topics
from lingbot_va_ros.rerun_scene import RerunScene

LAYOUTS = Path(__file__).resolve().parents[2] / 'config' / 'foxglove'


# Rerun


def rows(path: Path) -> dict[str, list[tuple[int, np.ndarray]]]:
    """What a file for Rerun has: time in nanoseconds and first component, by entity."""
    chunks = pytest.importorskip('rerun.chunk', reason='rerun-sdk 0.41 is not installed (requirements-view.txt)')
    found: dict[str, list[tuple[int, np.ndarray]]] = {}
    for chunk in chunks.RrdReader(path).stream().to_chunks():
        if chunk.is_static or 'time' not in chunk.timeline_names:
            continue
        batch = chunk.to_record_batch()
        names = [name for name in batch.schema.names if ':' in name]
        values = batch.column(next((name for name in names if name.endswith(('blob', 'scalars'))), names[0]))
        for at, value in zip(batch.column('time').cast('int64').to_pylist(), values.to_pylist(), strict=True):
            found.setdefault(chunk.entity_path.lstrip('/'), []).append((at, np.array(value)))
    return {entity: sorted(entries, key=lambda entry: entry[0]) for entity, entries in found.items()}


def test_the_file_for_rerun_has_all_that_the_bag_has(driven_bag: Path, tmp_path: Path) -> None:
    pytest.importorskip('rerun')
    path = tmp_path / 'run.rrd'
    assert cli.main(['replay', str(driven_bag), '--rrd', str(path)]) == 0
    program = Path(viewer.importlib.util.find_spec('rerun_cli').origin).with_name('rerun')
    subprocess.run([program, 'rrd', 'verify', path], check=True, timeout=60)
    shown = rows(path)
    with Bag(driven_bag) as opened:
        commands = [message for _, _, message in opened.messages('command')]
        images = [message for _, _, message in opened.messages(PROFILE.cameras[0].image_topic)]
        joints = opened.topics[opened.resolve(PROFILE.joint_states_topic)].count
        errors = [message.error for _, _, message in opened.messages('prediction_error')]
    for arm in PROFILE.arms:
        assert [at for at, _ in shown[f'joints/{arm.side}/command']] == [nanoseconds(m.header.stamp) for m in commands]
        np.testing.assert_allclose(
            [values for _, values in shown[f'joints/{arm.side}/command']],
            [m.values[list(arm.channels)] for m in commands],
        )
        assert len(shown[f'joints/{arm.side}/measured']) == joints
        boundaries = [at for at, _ in shown[f'joints/{arm.side}/next_chunk']]
        assert boundaries == [nanoseconds(m.header.stamp) for m in commands if m.action_index == 0]
    assert len(boundaries) == CHUNKS - 1, 'the last one was not begun'
    assert len(shown['cameras/cam_high']) == len(images)
    at, data = shown['cameras/cam_high'][2]
    seen = np.asarray(Image.open(io.BytesIO(bytes(data.ravel().astype(np.uint8)))))
    assert at == ORIGIN + 2 * PROFILE.clock.video_ns
    assert np.abs(seen.astype(int) - picture(2, 0)).mean() < 2
    assert [float(value.item()) for _, value in shown['prediction/error']] == pytest.approx(errors)
    assert len(shown['imagined/cam_high']) == 4 * (2 * CHUNKS - 1)
    assert len(shown['chunk/latency']) == CHUNKS and shown['status']


def test_messages_of_a_running_graph_are_shown_likewise(tmp_path: Path) -> None:
    rerun = pytest.importorskip('rerun')
    stream = rerun.RecordingStream('test')
    stream.save(tmp_path / 'live.rrd')
    scene = RerunScene(stream, PROFILE, compress=False)
    values = np.arange(30, dtype=np.float32)
    joints = {'name': [joint.name for joint in PROFILE.joints], 'position': [0.5] * len(PROFILE.joints)}
    messages = {
        'command': DualArmCommand(values=values, action_index=0),
        PROFILE.joint_states_topic: JointState(**joints),
        'action_chunk': ActionChunk(latency_ms=250.0),
        'prediction_error': PredictionError(error=0.25),
        'status': Status(state=Status.PREDICTING),
        PROFILE.cameras[0].image_topic: image_message(picture(0, 0), ORIGIN, 'camera'),
        imagined_topic(PROFILE.cameras[0]): image_message(picture(1, 0), ORIGIN, 'camera'),
    }
    for topic, message in messages.items():
        message.header.stamp = time(ORIGIN)
        scene.handlers[topic](message)
    stream.disconnect()
    shown = rows(tmp_path / 'live.rrd')
    assert all(at == ORIGIN for entries in shown.values() for at, _ in entries)
    assert shown['joints/right/command'][0][1].tolist() == values[list(PROFILE.arms[1].channels)].tolist()
    assert shown['joints/right/measured'][0][1].tolist() == [0.5] * len(PROFILE.arms[1].joints)
    assert shown['chunk/latency'][0][1].item() == 250.0 and shown['prediction/error'][0][1].item() == 0.25
    assert {'status', 'cameras/cam_high', 'imagined/cam_high'} <= set(shown)
    assert set(messages) <= {topic.name for topic in recorded_topics(PROFILE, imagined_video=True)}, 'not subscribed to'


def test_what_is_missing_is_told_and_the_rest_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip('rerun')
    episode = RecordedEpisode(tmp_path / 'bag', checkpoint='/nowhere/model')
    episode.announce(None)
    episode.command(ORIGIN)
    episode.latent('latents', ORIGIN, 0, np.zeros(episode.model.config.latent_shape))
    episode.chunk(0, Chunk(ORIGIN, first_latent=1, observed=0))
    episode.close()
    assert cli.main(['replay', str(tmp_path / 'bag'), '--rrd', str(tmp_path / 'run.rrd')]) == 0
    assert 'imagined video is left out: ' in capsys.readouterr().err
    assert set(rows(tmp_path / 'run.rrd')) >= {'joints/left/command', 'chunk/margin'}


def test_without_a_screen_the_window_is_refused(
    driven_bag: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    assert cli.main(['replay', str(driven_bag), '--view']) == 1
    assert 'no screen' in (said := capsys.readouterr().err) and '--rrd' in said


def test_without_rerun_no_file_is_left(
    driven_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer.importlib.util, 'find_spec', lambda name: None)
    assert cli.main(['replay', str(driven_bag), '--rrd', str(tmp_path / 'run.rrd')]) == 1
    assert 'requirements-view.txt' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# Foxglove


def referenced(layout: dict) -> dict[str, list[str]]:
    """The topics, with a path of fields behind some, that panels of a kind show."""
    found: dict[str, list[str]] = {}
    for name, panel in layout['configById'].items():
        paths = [path['value'] for path in panel.get('paths', [])]
        single = [panel.get('topicPath'), panel.get('topicToRender'), panel.get('imageMode', {}).get('imageTopic')]
        found.setdefault(name.split('!')[0], []).extend([*paths, *filter(None, single)])
    return found


def panels_in(tree: str | dict) -> list[str]:
    return [tree] if isinstance(tree, str) else [*panels_in(tree['first']), *panels_in(tree['second'])]


def topic_and_field(path: str, topics: dict[str, RecordedTopic]) -> tuple[RecordedTopic, str]:
    name, _, fields = path.partition('.')
    return topics[name], fields


@pytest.mark.parametrize('robot', robot_names())
def test_layouts_that_come_with_the_package_are_those_of_the_profiles(robot: str) -> None:
    assert json.loads((LAYOUTS / f'{robot}.json').read_text()) == foxglove_layout(load_profile(robot))


@pytest.mark.parametrize('robot', robot_names())
def test_every_topic_of_a_layout_is_recorded_with_the_type_that_its_panel_shows(robot: str) -> None:
    profile = load_profile(robot)
    topics = {f'/{each.name.lstrip("/")}': each for each in recorded_topics(profile, imagined_video=True)}
    layout = json.loads((LAYOUTS / f'{robot}.json').read_text())
    panels = referenced(layout)
    assert sorted(panels_in(layout['layout'])) == sorted(layout['configById'])
    cameras, imagined = np.split(np.array(panels['Image']), 2)
    assert cameras.tolist() == [f'/{each.topic.lstrip("/")}' for each in profile.cameras]
    assert imagined.tolist() == [f'/{imagined_topic(each)}' for each in profile.cameras]
    assert {topics[name].type_name for name in cameras} <= {IMAGE, COMPRESSED}
    assert {topics[name].type_name for name in imagined} == {IMAGE}
    assert [topics[name].type_name for name in panels['DiagnosticSummary']] == ['diagnostic_msgs/msg/DiagnosticArray']
    assert [topics[name].type_name for name in panels['RawMessages']] == ['lingbot_va_msgs/msg/Status']
    for path in (*panels['Plot'], *panels['StateTransitions']):
        topic, fields = topic_and_field(path, topics)
        field, _, index = fields.partition('[')
        kind = topic.kind.get_fields_and_field_types()[field]
        assert bool(index) == ('[' in kind or 'sequence' in kind), path
        if field == 'values':
            assert profile.mask[int(index.rstrip(']'))], path


@pytest.mark.parametrize('robot', robot_names())
def test_a_layout_shows_all_commands_and_measured_joints(robot: str) -> None:
    profile: RobotProfile = load_profile(robot)
    plotted = referenced(foxglove_layout(profile))['Plot']
    assert [p for p in plotted if '.position[' in p] and len(set(plotted)) == len(plotted)
    assert sum('.position[' in path for path in plotted) == len(profile.joints)
    assert sum('.values[' in path for path in plotted) == len(profile.channels)


def test_what_foxglove_lacks_is_written_beside_a_bag(driven_bag: Path, tmp_path: Path) -> None:
    assert cli.main(['replay', str(driven_bag), '--foxglove', str(tmp_path / 'fox')]) == 0
    assert json.loads((tmp_path / 'fox' / 'layout.json').read_text()) == foxglove_layout(PROFILE)
    with Bag(driven_bag) as opened, Bag(tmp_path / 'fox' / 'imagined') as written:
        model = load_noted_model(opened.notes, PROFILE, set())
        expected = list(imagined_frames(opened.messages, len(PROFILE.cameras), model))
        for number, camera in enumerate(PROFILE.cameras):
            messages = list(written.messages(imagined_topic(camera)))
            assert [nanoseconds(m.header.stamp) for _, _, m in messages] == [frame.stamp_ns for frame in expected]
            assert [log_ns for _, log_ns, _ in messages] == [frame.stamp_ns for frame in expected]
            for frame, (_, _, message) in zip(expected, messages, strict=True):
                np.testing.assert_array_equal(to_rgb(message), frame.images[number])


class WithOtherPictures(StartedTwice):
    """Another model is seen by its pictures."""

    def again(self, topic: str, data: bytes) -> bytes:
        if topic != 'imagined':
            return super().again(topic, data)
        message = deserialize_message(data, LatentFrame)
        message.data = array.array('B', (2 * np.frombuffer(message.data, '<f2')).tobytes())
        return serialize_message(message)


def test_images_of_graphs_that_were_started_again_lie_beside_their_own(driven_bag: Path, tmp_path: Path) -> None:
    drive(tmp_path / 'bag', kind=WithOtherPictures)
    assert cli.main(['replay', str(tmp_path / 'bag'), '--foxglove', str(tmp_path / 'fox')]) == 0
    with Bag(driven_bag) as opened, Bag(tmp_path / 'fox' / 'imagined') as written:
        model = load_noted_model(opened.notes, PROFILE, set())
        expected = list(imagined_frames(opened.messages, len(PROFILE.cameras), model))
        messages = list(written.messages(imagined_topic(PROFILE.cameras[0])))
    stamps = [frame.stamp_ns for frame in expected]
    assert [nanoseconds(m.header.stamp) for _, _, m in messages] == 2 * stamps
    assert [log_ns for _, log_ns, _ in messages] == [at + by for by in (DELAY, DELAY + LATER) for at in stamps]
    first, second = (
        np.stack([to_rgb(message) for _, _, message in part]).astype(int)
        for part in (messages[: len(stamps)], messages[len(stamps) :])
    )
    np.testing.assert_array_equal(first, [frame.images[0] for frame in expected])
    assert all(np.abs(one - other).mean() > 1 for one, other in zip(first, second, strict=True))


def test_a_layout_takes_the_names_of_topics_and_the_order_of_joints_from_the_bag() -> None:
    names = [joint.name for joint in reversed(PROFILE.joints)]
    layout = foxglove_layout(PROFILE, lambda topic: f'/cell/{topic}', names)
    (left,) = (panel for name, panel in layout['configById'].items() if name == 'Plot!joints_left')
    values = {path['label']: path['value'] for path in left['paths']}
    assert values['left_waist measured'] == f'/cell/joint_states.position[{names.index("left_waist")}]'
    assert values['left_waist command'] == '/cell/command.values[14]'
