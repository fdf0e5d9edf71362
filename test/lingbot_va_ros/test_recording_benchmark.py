"""The loads of the benchmarks of recording and conversion: they are what they say, and leave nothing behind."""

from pathlib import Path
from typing import Any

import pytest
from support import wait_until

from lingbot_va_core.robot import load_profile, parse_profile, profile_path
from lingbot_va_ros.bag import Bag
from lingbot_va_ros.conversion import Conversion
from lingbot_va_ros.conversion_benchmark import measure_conversion, write_bag
from lingbot_va_ros.recorded_topics import recorded_topics
from lingbot_va_ros.recording_benchmark import RecordingLoad, with_cameras


def test_cameras_of_the_load_are_recorded_beside_the_graph(graph: Any) -> None:
    topics = recorded_topics(load_profile('aloha'))
    publishers = [graph.node.create_publisher(topic.kind, topic.name, topic.qos) for topic in topics]
    with RecordingLoad('aloha', '') as load:
        with load.recorder() as pid:
            assert Path(f'/proc/{pid}').exists()
            publishers[0].publish(topics[0].kind())
            partial = load._folder / 'bag.partial'
            wait_until(lambda: sum(path.stat().st_size for path in partial.rglob('*.mcap')) > 30_000_000, 30.0)
        result = load.result()
        folder = load._folder
    assert not folder.exists() and not Path(f'/proc/{pid}').exists()
    assert result['dropped'] == {} and result['messages'] > 20
    assert set(result['lost']) == {'bench_0', 'bench_1', 'bench_2'}
    assert all(0 <= lost < 60 for lost in result['lost'].values())


def test_the_load_adds_three_cameras_to_a_profile() -> None:
    profile = parse_profile(with_cameras(profile_path('aloha').read_text()), 'the load')
    own = load_profile('aloha').cameras
    assert profile.cameras[: len(own)] == own
    assert [(c.name, c.width, c.height) for c in profile.cameras[len(own) :]] == [
        (f'bench_{number}', 640, 480) for number in range(3)
    ]


def test_a_conversion_is_measured_on_a_bag_of_the_promised_rates(tmp_path: Path) -> None:
    write_bag(tmp_path / 'bag', 1.0)
    with Bag(tmp_path / 'bag') as bag:
        counts = {name: topic.count for name, topic in bag.topics.items()}
    assert counts['/joint_states'] == 100 and counts['/left_arm_controller/joint_trajectory'] == 50
    assert [counts[f'/{camera.image_topic}'] for camera in load_profile('aloha').cameras] == [30, 30, 30]
    with Conversion([tmp_path / 'bag']) as conversion:
        assert [part.frames for part in conversion.parts] == [13]

    numbers = measure_conversion(1.0, 1, tmp_path / 'place')
    assert numbers['cpu_s'] > 0 and 50 < numbers['peak_mib'] < 2000 and numbers['data_bytes'] > 10000
    assert list((tmp_path / 'place').iterdir()) == []


@pytest.mark.parametrize(('seconds', 'workers', 'says'), [(0.0, 1, '--seconds is 0'), (1.0, 0, '--workers is 0')])
def test_bad_options_are_refused(seconds: float, workers: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        measure_conversion(seconds, workers)
