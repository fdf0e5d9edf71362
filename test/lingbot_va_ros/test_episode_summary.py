"""The summary of a bag whose numbers are known."""

from pathlib import Path
from typing import Any

import pytest
from recorded_episode import (
    ACTIONS,
    DELAY,
    DT,
    EPISODE,
    INSTRUCTION,
    LATENT,
    LATER,
    ORIGIN,
    START,
    VIDEO,
    Chunk,
    RecordedEpisode,
    StartedTwice,
    time,
)

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_msgs.msg import Episode
from lingbot_va_ros.bag import BagReadError
from lingbot_va_ros.camera_frames import camera_frames
from lingbot_va_ros.episode_bag import EpisodeBag
from lingbot_va_ros.episode_summary import summarize


def summary_of(folder: Path) -> dict[str, Any]:
    with EpisodeBag(folder) as bag:
        return summarize(bag)


def follow(bag: RecordedEpisode, chunk: int, at_ns: int, late: int = 0) -> None:
    """Send the commands of a chunk, each a period before it is due, the first `late` of them as holds."""
    for index in range(ACTIONS):
        sent = at_ns + index * DT
        bag.command(sent, chunk, index) if index >= late else bag.command(sent)


def hold(bag: RecordedEpisode, from_ns: int, ticks: int) -> int:
    """Hold for so many periods; return when they are over."""
    for tick in range(ticks):
        bag.command(from_ns + tick * DT)
    return from_ns + ticks * DT


def sync_episode(path, late: int = 0, kind: type[RecordedEpisode] = RecordedEpisode, **options) -> None:
    """Ten holds, a chunk, a pause of 15 holds, a chunk that came `late` periods too late."""
    bag = kind(path, **options)
    bag.command(START - DT, episode=0)
    at = hold(bag, START, 10)
    bag.chunk(0, Chunk(at, first_latent=1, observed=0, latency_ms=100.0))
    follow(bag, 0, at)
    at = hold(bag, at + ACTIONS * DT, 15)
    bag.chunk(1, Chunk(at, first_latent=3, observed=2, latency_ms=300.0))
    follow(bag, 1, at, late)
    bag.announce(at + ACTIONS * DT)
    bag.images(20)
    bag.success(START - 1, True)  # of an earlier episode
    bag.diagnostics(START + NANOSECONDS, 30, 1)
    bag.diagnostics(START + 2 * NANOSECONDS, 63, 3)
    bag.close()


def test_numbers_of_an_episode_in_sync_mode(tmp_path):
    sync_episode(tmp_path / 'bag')
    summary = summary_of(tmp_path / 'bag')
    ticks = 10 + ACTIONS + 15 + ACTIONS
    expected = {
        'success': False, 'robot': 'aloha', 'task': 'transfer_cube', 'instruction': INSTRUCTION, 'mode': 'sync',
        'checkpoint': None, 'model': 'tiny (untrained, seed 0)', 'chunks': 2, 'held_ticks': 25, 'starved_ticks': 0,
        'images_received': 63, 'images_dropped': 3, 'recorder_dropped': {},
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    assert summary['episode_s'] == pytest.approx(ticks * DT / NANOSECONDS)
    assert summary['command_rate_hz'] == pytest.approx(50.0)
    assert summary['command_period_ms'] == pytest.approx({'p50': 20.0, 'p99': 20.0, 'max': 20.0})
    assert summary['chunk_latency_ms'] == pytest.approx({'p50': 200.0, 'p99': 298.0})
    assert summary['chunk_motion_ms'] == pytest.approx(2 * LATENT / 1e6)
    assert summary['camera_hz'] == pytest.approx(dict.fromkeys(summary['camera_hz'], 12.5))
    assert list(summary['camera_hz']) == ['cam_high', 'cam_left_wrist', 'cam_right_wrist']


def test_pauses_of_sync_mode_are_not_starvation_but_lost_actions_are(tmp_path):
    sync_episode(tmp_path / 'bag', late=8)
    summary = summary_of(tmp_path / 'bag')
    assert summary['held_ticks'] == 25 + 8
    assert summary['starved_ticks'] == 8


def test_in_asynchronous_modes_every_hold_after_the_first_chunk_began_is_starvation(tmp_path):
    bag = RecordedEpisode(tmp_path / 'bag', mode=Episode.FDM)
    at = hold(bag, START, 12)
    bag.chunk(0, Chunk(at, first_latent=1, observed=0))
    follow(bag, 0, at)
    at += ACTIONS * DT
    bag.chunk(1, Chunk(at, first_latent=3, observed=1))
    follow(bag, 1, at, late=6)
    bag.announce(at + ACTIONS * DT)
    bag.close()
    summary = summary_of(tmp_path / 'bag')
    assert (summary['mode'], summary['held_ticks'], summary['starved_ticks']) == ('fdm', 18, 6)


def test_the_episodes_of_a_task_are_one_summary_and_the_hold_between_them_is_no_starvation(tmp_path):
    bag = RecordedEpisode(tmp_path / 'bag', mode=Episode.FDM)
    at = hold(bag, START, 5)
    bag.chunk(0, Chunk(at, first_latent=1, observed=0))
    follow(bag, 0, at)
    at = hold(bag, at + ACTIONS * DT, 4)
    bag.restart(at)
    at = hold(bag, at, 30)
    bag.chunk(0, Chunk(at, first_latent=1, observed=0))
    follow(bag, 0, at)
    at += ACTIONS * DT
    bag.chunk(1, Chunk(at, first_latent=3, observed=1, margin_ms=40.0))
    follow(bag, 1, at)
    bag.announce(at + ACTIONS * DT)
    bag.close()
    summary = summary_of(tmp_path / 'bag')
    assert (summary['chunks'], summary['restarts']) == (3, 1)
    assert (summary['held_ticks'], summary['starved_ticks']) == (39, 4)
    assert summary['chunk_margin_ms'] == pytest.approx({'p1': 40.0, 'p50': 40.0})
    assert summary['episode_s'] == pytest.approx((39 + 3 * ACTIONS) * DT / NANOSECONDS)


def test_of_a_graph_that_was_started_again_with_its_clock_only_the_last_task_counts(tmp_path):
    sync_episode(tmp_path / 'once')
    sync_episode(tmp_path / 'twice', kind=StartedTwice)
    assert summary_of(tmp_path / 'twice') == summary_of(tmp_path / 'once')
    with EpisodeBag(tmp_path / 'once') as once, EpisodeBag(tmp_path / 'twice') as twice:
        assert twice.episode.announced_ns == once.episode.announced_ns + DELAY + LATER
        assert len(list(camera_frames(twice))) == len(list(camera_frames(once))) == 20


def test_an_announcement_that_is_sent_again_begins_nothing(tmp_path):
    bag = RecordedEpisode(tmp_path / 'bag')
    at = hold(bag, START, 10)
    bag.announce(at)
    message = Episode(episode=EPISODE, task=1, mode=Episode.SYNC, instruction=INSTRUCTION)
    message.header.stamp = time(START)
    bag.add('episode', START + 5 * DT, message)
    bag.close()
    assert summary_of(tmp_path / 'bag')['held_ticks'] == 10


def test_a_slow_command_shows_in_the_periods(tmp_path):
    bag = RecordedEpisode(tmp_path / 'bag')
    at = hold(bag, START, 101)
    hold(bag, at + 3 * DT, 1)
    bag.announce(at + 4 * DT)
    bag.close()
    summary = summary_of(tmp_path / 'bag')
    assert summary['command_period_ms']['max'] == pytest.approx(80.0)
    assert summary['command_period_ms']['p50'] == pytest.approx(20.0)
    assert summary['command_rate_hz'] == pytest.approx(101 / 2.08)


def test_success_counts_within_the_episode(tmp_path):
    bag = RecordedEpisode(tmp_path / 'bag')
    at = hold(bag, START, 10)
    bag.success(START + 5 * DT, True)
    bag.announce(at)
    bag.close()
    assert summary_of(tmp_path / 'bag')['success'] is True


def test_what_is_not_in_the_bag_is_none_and_a_missing_end_is_the_last_command(tmp_path):
    bag = RecordedEpisode(tmp_path / 'bag')
    hold(bag, START, 50)
    bag.announce(None)
    bag.close()
    summary = summary_of(tmp_path / 'bag')
    assert summary['episode_s'] == pytest.approx(49 * 0.02)
    assert summary['chunks'] == 0 and summary['chunk_motion_ms'] is None and summary['model'] is None
    assert summary['chunk_latency_ms'] == {'p50': None, 'p99': None}
    assert summary['images_received'] is None and summary['camera_hz']['cam_high'] is None


def test_topics_of_a_namespace_are_found(tmp_path):
    sync_episode(tmp_path / 'bag', namespace='cell_1')
    assert summary_of(tmp_path / 'bag')['chunks'] == 2


def test_a_rate_of_a_camera_that_missed_frames(tmp_path):
    bag = RecordedEpisode(tmp_path / 'bag')
    bag.images(21, skip=(3, 4, 5, 6))
    bag.announce(ORIGIN + 21 * VIDEO)
    bag.close()
    assert summary_of(tmp_path / 'bag')['camera_hz']['cam_high'] == pytest.approx(12.5 * 16 / 20)


@pytest.mark.parametrize('make', [lambda path: None, lambda path: path.mkdir()])
def test_what_is_no_bag_is_named(tmp_path, make):
    make(tmp_path / 'bag')
    with pytest.raises(BagReadError, match=r'bag (does not exist|cannot be read)'):
        summary_of(tmp_path / 'bag')


def test_a_bag_without_an_episode_is_named(tmp_path):
    bag = RecordedEpisode(tmp_path / 'bag')
    bag.command(START, episode=0)
    bag.close()
    with pytest.raises(BagReadError, match='holds no episode'):
        summary_of(tmp_path / 'bag')
