"""Bags of known motion become data sets that say the same; what is missing is cut, what is broken is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from lerobot_library import assert_lerobot_agrees
from recorded_motion import (
    CHANNELS,
    DT,
    T0,
    VIDEO,
    MotionBag,
    act,
    commanded,
    framed_profile,
    measured,
    picture,
    teleoperate,
)
from rosbags.rosbag2 import StoragePlugin

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.datasets.checks import check
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_ros import cli
from lingbot_va_ros.bag import BagReadError
from lingbot_va_ros.conversion import Conversion

MS = 1_000_000


def convert(*bags: Path, instruction: str | None = None) -> tuple[Dataset, list[str]]:
    """Convert in this process; return the data set, and what was left out."""
    out = bags[0].with_name('data')
    with Conversion(bags, instruction=instruction) as conversion:
        writer = conversion.writer(out, 'v3.0')
        list(conversion.write(writer))
        dataset = Dataset(writer.finish(len(conversion.parts)))
    check(dataset)
    return dataset, conversion.notes


def shows(shown: np.ndarray, at_ns: int, camera: int) -> bool:
    """Whether an image is the one that was taken at this instant."""
    return bool(np.abs(shown.astype(int) - picture(at_ns, camera)).mean() < 3)


def test_a_teleoperated_bag_is_resampled_on_the_clock_of_the_profile(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag)
    dataset, left_out = convert(bag.close())
    [episode] = dataset
    assert left_out == [] and episode.frames == 25 and episode.success
    assert episode.instruction == 'wipe the table'
    instants = np.array(episode.attributes['instants_ns'])
    assert instants.tolist() == [T0 + k * VIDEO for k in range(25)]
    assert np.allclose(episode.states[:, CHANNELS], [measured(T0 + k * DT) for k in range(97)], atol=1e-6)
    # The gripper is driven by goals, which no topic has: what was measured stands for them.
    wanted = np.array([commanded(T0 + (k + 1) * DT) for k in range(96)])
    wanted[:, 2] -= 0.5
    assert np.allclose(episode.actions[:, CHANNELS], wanted, atol=1e-6)
    assert np.array_equal(episode.actions, episode.executed)
    assert not np.delete(episode.actions, CHANNELS, axis=1).any()
    for camera, name in enumerate(('head', 'wrist')):
        late = 3 * MS * camera
        assert all(shows(image, at + late, camera) for at, image in zip(instants, episode.video(name), strict=True))


def test_what_our_graph_executed_is_taken_exactly_at_the_instants_that_it_reports(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    reported = act(bag, 1, T0, 3, pause_ns=400 * MS)
    bag.solved(T0 + 2 * NANOSECONDS)
    bag.episode(T0 + 3 * NANOSECONDS, 0, task=0)
    bag.joints(T0 + 5 * NANOSECONDS)
    dataset, _ = convert(bag.close())
    [episode] = dataset
    begins = [T0 + i * (4 * VIDEO + 400 * MS) for i in range(3)]
    instants = [T0, *(begin + (j + 1) * VIDEO for begin in begins for j in range(4))]
    assert episode.attributes['instants_ns'] == instants
    assert np.array_equal(episode.latent_actions(episode.actions), np.stack(reported))
    assert np.array_equal(episode.executed, episode.actions)
    steps = [T0, *(begin + (k + 1) * DT for begin in begins for k in range(16))]
    assert np.allclose(episode.states[:, CHANNELS], [measured(at) for at in steps], atol=1e-6)
    assert all(shows(image, at, 0) for at, image in zip(instants, episode.video('head'), strict=True))
    assert episode.success and episode.instruction == 'fold the towel'


def test_a_restarted_task_makes_episodes_of_which_the_last_one_solves_it(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    act(bag, 1, T0, 2)
    act(bag, 2, T0 + NANOSECONDS, 1)
    bag.solved(T0 + 1500 * MS)
    bag.episode(T0 + 1600 * MS, 0, task=0)
    dataset, _ = convert(bag.close())
    assert [(e.frames, e.success, e.attributes['episode']) for e in dataset] == [(9, False, 1), (5, True, 2)]


def test_events_of_the_recorder_leave_out_and_judge(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    for number in (1, 2, 3):
        act(bag, number, T0 + (number - 1) * NANOSECONDS, 1, task=number)
    for at, event in ((-0.1, 'start'), (0.7, 'discard'), (0.9, 'start'), (1.5, 'success'), (1.8, 'stop')):
        bag.event(T0 + round(at * 1000) * MS, event)
    dataset, left_out = convert(bag.close())
    assert [(e.attributes['episode'], e.success) for e in dataset] == [(2, True)]
    assert 'episode 1 of the recording was discarded' in left_out[0]
    assert 'task 3 at 170000000' in left_out[1] and 'is in no episode of the recording' in left_out[1]


def test_marked_parts_of_a_teleoperated_bag_are_its_episodes(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 3.0)
    marks = (('start', 0.2), ('stop', 0.9), ('start', 1.0), ('discard', 1.5), ('start', 2.0), ('failure', 2.8))
    for event, at in marks:
        bag.event(T0 + round(at * 1000) * MS, event)
    dataset, _ = convert(bag.close())
    assert [(e.frames, e.success, e.attributes['recorded_episode']) for e in dataset] == [(9, True, 1), (13, False, 3)]
    assert dataset[0].attributes['instants_ns'][0] == T0 + 200 * MS
    assert dataset[1].attributes['instants_ns'][0] == T0 + 2000 * MS


def test_what_did_not_succeed_can_be_left_out(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 3.0)
    marks = (('start', 0.1), ('success', 0.8), ('stop', 0.9), ('start', 1.0), ('failure', 1.8), ('stop', 1.9))
    for event, at in (*marks, ('start', 2.0)):
        bag.event(T0 + round(at * 1000) * MS, event)
    with Conversion([bag.close()], successes=True) as conversion:
        assert [part.success for part in conversion.parts] == [True]
    failed, unknown = conversion.notes
    assert 'the episode at 1700000001.000 s' in failed and 'failed, and is left out' in failed
    assert 'is not said to have succeeded, and is left out' in unknown


def test_a_camera_that_is_silent_is_held_and_then_cuts_the_episode(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 3.0, outage=(0.99, 1.5))
    dataset, left_out = convert(bag.close())
    first, second = dataset
    assert first.frames == 13 and second.attributes['instants_ns'][0] > T0 + 1400 * MS
    [cut] = left_out
    assert 'no image of wrist near more than 2 video frames in a row at 170000000' in cut and str(bag.path) in cut


def test_a_short_silence_repeats_an_image(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 2.0, outage=(0.98, 1.15))
    dataset, left_out = convert(bag.close())
    assert left_out == [] and len(dataset) == 1
    assert dataset[0].attributes['held_images'] == 1


def test_a_gap_in_the_joints_cuts_the_episode(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 3.0)
    silent = range(T0 + 1500 * MS, T0 + 1900 * MS)
    bag._messages = [m for m in bag._messages if not (m[1] == '/joint_states' and m[0] in silent)]
    dataset, left_out = convert(bag.close())
    assert [episode.frames for episode in dataset] == [17, 13]
    assert 'no measured position of left_a, left_b, left_grip and 1 more' in left_out[0]


@pytest.mark.parametrize('jump_s', [-2, 1000])
def test_a_clock_that_jumps_cuts_the_episode(tmp_path, jump_s):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 1.5)
    later = MotionBag(tmp_path / 'later')
    ahead = (2 + jump_s) * NANOSECONDS
    teleoperate(later, 1.5, begin_ns=T0 + ahead)
    bag._messages += [(log_ns - ahead + 2 * NANOSECONDS, *rest) for log_ns, *rest in later._messages]
    dataset, [cut] = convert(bag.close())
    assert [episode.frames for episode in dataset] == [17, 17]
    assert f'{bag.path}: the stamps of /joint_states jump by {jump_s + 0.5:+.3f} s at 1700000001.500 s' in cut


def test_a_simulated_clock_moves_commands_without_stamps_onto_itself(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 1.0)
    bag._messages = [(log_ns + 10**18, *rest) for log_ns, *rest in bag._messages]
    dataset, _ = convert(bag.close())
    begin = dataset[0].attributes['instants_ns'][0]
    wanted = np.array([commanded(begin + (k + 1) * DT)[3] for k in range(48)])
    assert begin < T0 + VIDEO and np.allclose(dataset[0].actions[:, 21], wanted, atol=1e-6)


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_compressed_images_and_both_storages_are_read(tmp_path, storage):
    bag = MotionBag(tmp_path / 'bag', storage)
    teleoperate(bag, 0.5, compressed=True)
    dataset, _ = convert(bag.close())
    assert dataset[0].frames == 5
    assert shows(dataset[0].images('wrist')[2], T0 + 2 * VIDEO + 3 * MS, 1)


def test_what_the_profile_crops_and_resizes_is_what_the_data_holds(tmp_path):
    bag = MotionBag(tmp_path / 'bag', profile=framed_profile('wrist', 'crop: [16, 8, 40, 32], resize: [20, 16]'))
    teleoperate(bag, 0.5)
    dataset, _ = convert(bag.close())
    assert [(view.width, view.height) for view in dataset.spec.cameras] == [(64, 48), (20, 16)]
    shown, whole = dataset[0].images('wrist')[2], picture(T0 + 2 * VIDEO + 3 * MS, 1)
    halved = whole[8:40, 16:56].reshape(16, 2, 20, 2, 3).mean(axis=(1, 3))  # a smooth picture
    assert shown.shape == (16, 20, 3) and np.abs(shown - halved).mean() < 3


def test_several_bags_in_two_processes_give_what_one_gives(tmp_path):
    bags = []
    for name in 'ab':
        bag = MotionBag(tmp_path / name)
        teleoperate(bag, 0.5 if name == 'a' else 0.9)
        bags.append(str(bag.close()))
    arguments = ['convert', *bags, '--json', str(tmp_path / 'n.json')]
    for workers in ('1', '2'):
        assert cli.main([*arguments, '--workers', workers, '--out', str(tmp_path / workers)]) == 0
    one, two = (
        {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}
        for root in (tmp_path / '1', tmp_path / '2')
    )
    assert one == two
    assert [episode.frames for episode in Dataset(tmp_path / '2')] == [5, 9]
    numbers = json.loads((tmp_path / 'n.json').read_text())
    assert (numbers['episodes'], numbers['frames'], numbers['left_out']) == (2, 14, [])


def test_the_lerobot_library_reads_it(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    for number in (1, 2):
        act(bag, number, T0 + (number - 1) * NANOSECONDS, number)
    dataset, _ = convert(bag.close())
    assert_lerobot_agrees(dataset)


def test_an_interrupted_conversion_goes_on(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    for number in (1, 2):
        act(bag, number, T0 + (number - 1) * NANOSECONDS, 1)
    bag.close()
    with Conversion([bag.path]) as conversion:
        writer = conversion.writer(tmp_path / 'data', 'v3.0')
        assert next(iter(conversion.write(writer))).attributes['episode'] == 1
    staged = next((tmp_path / 'data.partial').rglob('*000000.parquet'))
    written = staged.stat().st_mtime_ns
    with Conversion([bag.path]) as conversion:
        writer = conversion.writer(tmp_path / 'data', 'v3.0')
        assert [part.attributes['episode'] for part in conversion.write(writer)] == [2]
        assert staged.stat().st_mtime_ns == written
        assert len(Dataset(writer.finish(2))) == 2


def test_what_a_killed_recorder_left_is_converted_as_far_as_it_goes(tmp_path, capsys):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 8.0)
    whole = (bag.close() / 'bag.mcap').read_bytes()
    left = tmp_path / 'bag.partial' / 'bag'
    left.mkdir(parents=True)
    (left / 'bag.mcap').write_bytes(whole[: 2 * len(whole) // 3])
    profile = tmp_path / 'mini.yaml'
    profile.write_text(bag._notes['profile'])
    arguments = ['convert', str(left.parent), '--robot', str(profile), '--instruction', 'wipe']
    assert cli.main([*arguments, '--workers', '1', '--out', str(tmp_path / 'data')]) == 0, capsys.readouterr().err
    [episode] = Dataset(tmp_path / 'data')
    assert 5 <= episode.frames < 101
    assert np.allclose(episode.states[0, CHANNELS], measured(T0), atol=1e-6)


def test_a_bag_that_is_damaged_later_leaves_nothing(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 8.0)
    file = bag.close() / 'bag.mcap'
    with Conversion([bag.path]) as conversion:
        data = bytearray(file.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 100] = bytes(100)
        file.write_bytes(data)
        with pytest.raises(BagReadError, match=r'bag( is|:) .*at 1700000'):
            list(conversion.write(conversion.writer(tmp_path / 'data', 'v3.0')))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bag']
