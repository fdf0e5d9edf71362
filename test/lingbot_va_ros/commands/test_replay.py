"""`lingbot-va replay`: a recorded run goes through the same model again, or through another one."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from driven_episode import CHUNKS, OTHER, SEED, drive
from PIL import Image
from recorded_episode import EPISODE, INSTRUCTION, ORIGIN, PROFILE, Chunk, RecordedEpisode, StartedTwice

from lingbot_va_core.canvas import to_images, to_pixels
from lingbot_va_core.checkpoint import load_model, save_checkpoint
from lingbot_va_core.session import Session
from lingbot_va_core.streaming import StreamingDecoder
from lingbot_va_ros import cli
from lingbot_va_ros.action_messages import pose_frame
from lingbot_va_ros.bag import Bag
from lingbot_va_ros.recorded_run import RecordedRun, runs_in_bag, video_frames
from lingbot_va_ros.replay import ReplayError, difference, recorded_steps, replay, require_pose_frame, synchronous_steps
from lingbot_va_ros.replay_evaluation import compared_frames


@pytest.fixture
def run(driven_bag: Path) -> RecordedRun:
    with Bag(driven_bag) as opened:
        (found,) = runs_in_bag(opened, PROFILE)
    return found


@pytest.fixture(scope='module')
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of other weights."""
    folder = tmp_path_factory.mktemp('other') / 'model'
    save_checkpoint(load_model(None, 'tiny', PROFILE, seed=1), folder)
    return folder


def replayed(path: Path, folder: Path, *arguments: object) -> tuple[int, dict]:
    status = cli.main(['replay', str(path), '--json', str(folder / 'report.json'), *map(str, arguments)])
    return status, json.loads((folder / 'report.json').read_text())


def session() -> Session:
    return Session(load_model(None, 'tiny', PROFILE, 0), 'fdm', SEED)


def copy_with(bag: Path, path: Path, old: str, new: str) -> None:
    """Copy a bag with other notes."""
    shutil.copytree(bag, path)
    notes = path / 'metadata.yaml'
    text = notes.read_text()
    assert old in text
    notes.write_text(text.replace(old, new))


def test_the_same_model_and_seed_give_the_same_chunks_to_the_bit(
    driven_bag: Path, run: RecordedRun, tmp_path: Path
) -> None:
    status, report = replayed(driven_bag, tmp_path)
    assert (status, report['identical']) == (0, True)
    (episode,) = report['episodes']
    assert (episode['episode'], episode['mode'], episode['chunks']) == (EPISODE, 'fdm', CHUNKS)
    assert episode['largest_action_difference'] == episode['largest_latent_difference'] == 0
    assert any(len(message.executed_indices) for message in run.chunks), 'no chunk began behind a report'
    assert any(len(message.imagined_indices) > len(message.executed_indices) for message in run.chunks)
    assert len(set(run.instructions.values())) == 2, 'the instruction never changed'
    assert all(distance == 0 for distance in episode['action_distance'].values()), 'it executed what it planned'
    assert episode['latent_error'] == pytest.approx(episode['recorded_latent_error'], rel=1e-3)


def test_latents_that_were_not_recorded_are_encoded_again(tmp_path: Path) -> None:
    drive(tmp_path / 'bag', latents=False)
    status, report = replayed(tmp_path / 'bag', tmp_path)
    assert (status, report['identical']) == (0, True)


@pytest.mark.parametrize('what', ['executed', 'latents'])
def test_a_changed_input_shows_in_the_chunks_behind_it(run: RecordedRun, what: str) -> None:
    steps = recorded_steps(run)
    values = getattr(run, what)
    first = next(n for n, step in enumerate(steps) if 1 in (step.executed if what == 'executed' else step.observed))
    values[1] = values[1] + np.float32(0.01)
    found = [difference(run, each) for each in replay(run, session(), steps)]
    assert [each.identical for each in found] == [n < first for n in range(CHUNKS)]
    assert all(each.same_context for each in found)


def test_another_seed_of_the_noise_is_told(driven_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    copy_with(driven_bag, tmp_path / 'bag', f"noise_seed: '{SEED}'", "noise_seed: '8'")
    status, report = replayed(tmp_path / 'bag', tmp_path)
    assert (status, report['identical']) == (1, False)
    assert report['episodes'][0]['largest_action_difference'] > 0
    assert 'differs from what was recorded by at most' in capsys.readouterr().out


def test_another_model_is_evaluated_with_pictures(driven_bag: Path, other: Path, tmp_path: Path) -> None:
    status, report = replayed(driven_bag, tmp_path, '--checkpoint', other, '--out', tmp_path / 'pictures')
    assert (status, report['identical']) == (0, False)
    (episode,) = report['episodes']
    assert episode['same_context'], 'it was asked when the first model was'
    assert all(distance > 0 for distance in episode['action_distance'].values())
    assert all(distance == 0 for distance in episode['recorded_action_distance'].values())
    assert episode['latent_error'] > 0 and episode['pixel_error'] > 1
    assert 0 < episode['latency_ms']['p50'] <= episode['latency_ms']['max']
    assert episode['recorded_latency_ms'] == {'p50': 50.0, 'max': 50.0}
    video = np.asarray(Image.open(tmp_path / 'pictures' / f'episode_{EPISODE}_video.png'))
    curves = np.asarray(Image.open(tmp_path / 'pictures' / f'episode_{EPISODE}_actions.png'))
    assert video.std() > 20 and curves.std() > 10


def test_a_model_with_shorter_chunks_is_fed_as_if_it_waited(driven_bag: Path, tmp_path: Path) -> None:
    model = load_model(None, 'tiny', PROFILE, seed=1)
    rollout = dataclasses.replace(model.config.rollout, chunk_frames=model.config.rollout.chunk_frames - 1)
    model.config = dataclasses.replace(model.config, rollout=rollout)
    save_checkpoint(model, tmp_path / 'model')
    status, report = replayed(driven_bag, tmp_path, '--checkpoint', tmp_path / 'model')
    (episode,) = report['episodes']
    assert (status, episode['mode'], episode['largest_action_difference']) == (0, 'sync', None)
    assert episode['chunks'] > 1 and episode['latent_error'] > 0


def test_a_model_with_other_chunks_hears_a_new_instruction_where_it_held(tmp_path: Path) -> None:
    drive(tmp_path / 'bag', 5)
    with Bag(tmp_path / 'bag') as opened:
        (run,) = runs_in_bag(opened, PROFILE)
    heard: list[tuple[int, str]] = []

    class Listening(Session):
        def set_instruction(self, text: str) -> None:
            heard.append((len(predicted), text))
            super().set_instruction(text)

    model = load_model(None, 'tiny', PROFILE, seed=1)
    rollout = dataclasses.replace(model.config.rollout, chunk_frames=model.config.rollout.chunk_frames - 1)
    model.config = dataclasses.replace(model.config, rollout=rollout)
    held = next(m.first_latent_index for m in run.chunks if run.instructions[m.chunk] == OTHER)
    steps, predicted = synchronous_steps(run, rollout.chunk_frames), []
    for each in replay(run, Listening(model, 'sync', SEED), steps):
        predicted.append(each.chunk.first_latent_index)
    assert predicted == [step.first for step in steps]
    assert heard == [(0, INSTRUCTION), (next(n for n, first in enumerate(predicted) if first >= held), OTHER)]


def test_runs_of_a_graph_that_was_started_again_are_replayed_one_by_one(tmp_path: Path) -> None:
    drive(tmp_path / 'bag', latents=False, kind=StartedTwice)  # both encode their own images
    status, report = replayed(tmp_path / 'bag', tmp_path, '--out', tmp_path / 'pictures')
    assert (status, report['identical']) == (0, True)
    first, second = report['episodes']
    assert second['announced_ns'] - first['announced_ns'] == 10**6 and first['chunks'] == second['chunks'] == CHUNKS
    assert len(list((tmp_path / 'pictures').iterdir())) == 4


class NothingImagined(RecordedEpisode):
    def close(self) -> None:
        self._messages = [m for m in self._messages if m[1] != 'imagined']
        super().close()


def test_imagined_frames_that_were_not_recorded_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    drive(tmp_path / 'bag', kind=NothingImagined)
    status, report = replayed(tmp_path / 'bag', tmp_path)
    (episode,) = report['episodes']
    assert (status, report['identical'], episode['same_actions']) == (1, False, True)
    assert (episode['imagined_frames_compared'], episode['imagined_frames']) == (0, 2 * CHUNKS - 1)
    assert 'actions identical; imagined frames not recorded' in capsys.readouterr().out


def test_poses_relative_to_something_else_are_refused(run: RecordedRun) -> None:
    mask = np.ones(30, dtype=bool)
    require_pose_frame(run, True, mask)  # the recording does not say
    for message in run.chunks:
        message.header.frame_id = pose_frame(True, mask)
    require_pose_frame(run, True, mask)
    require_pose_frame(run, None, mask)
    require_pose_frame(run, False, PROFILE.mask)  # there are none
    with pytest.raises(ReplayError, match=f"poses in '{pose_frame(True, mask)}', those of the model"):
        require_pose_frame(run, False, mask)


def test_imagined_images_are_measured_in_the_size_of_the_views(driven_bag: Path, run: RecordedRun) -> None:
    model = load_model(None, 'tiny', PROFILE, 0)
    chunk = next(replay(run, session(), recorded_steps(run)))
    with Bag(driven_bag) as opened:
        real = dict(video_frames(opened, PROFILE, run))
        first = next(compared_frames([chunk], run, iter(real.items()), model))
    decoder = StreamingDecoder(model.vae, model.config.rollout)
    decoder.decode(torch.from_numpy(run.latents[0])[None])
    expected = decoder.decode(chunk.chunk.latents[:1])
    sizes = model.config.rollout.view_sizes

    def distance(imagined: list[list[np.ndarray]]) -> float:
        squares = [
            (ours.astype(float) - to_images(to_pixels([theirs], size, torch.device('cpu')))[0]) ** 2
            for views, came in zip(imagined, real[1], strict=True)
            for ours, theirs, size in zip(views, came, sizes, strict=True)
        ]
        return float(np.concatenate([square.ravel() for square in squares]).mean() ** 0.5)

    still = [to_images(to_pixels([image], size, torch.device('cpu')))[0]
             for image, size in zip(real[0][0], sizes, strict=True)]  # fmt: skip
    assert first.error == pytest.approx(distance(expected), rel=1e-4)
    assert first.change == pytest.approx(distance([still] * 4), rel=1e-4)
    assert first.change < first.error


# What cannot be replayed


@pytest.mark.parametrize('shown', [['--view'], ['--rrd', 'run.rrd'], ['--foxglove', 'folder']])
@pytest.mark.parametrize('option', [['--checkpoint', 'x'], ['--episode', '0'], ['--out', 'x'], ['--json', 'x']])
def test_options_that_have_no_meaning_for_a_view_are_refused(
    driven_bag: Path, shown: list[str], option: list[str], capsys: pytest.CaptureFixture
) -> None:
    text = message_of(driven_bag, *shown, *option, capsys=capsys)
    assert f'{shown[0]} shows the recording' in text and f'leave out {option[0]}' in text


def message_of(path: Path, *arguments: object, capsys: pytest.CaptureFixture) -> str:
    assert cli.main(['replay', str(path), *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_a_bag_without_chunks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    episode = RecordedEpisode(tmp_path / 'bag')
    episode.announce(None)
    episode.success(ORIGIN, True)
    episode.close()
    assert 'has no action chunk of an episode' in message_of(tmp_path / 'bag', capsys=capsys)


def test_an_episode_that_is_not_there_is_refused(driven_bag: Path, capsys: pytest.CaptureFixture) -> None:
    assert '--episode is 9' in message_of(driven_bag, '--episode', 9, capsys=capsys)


def test_weights_that_have_changed_since_are_refused(
    other: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    notes = {'checkpoint': str(other), 'weights_sha256': '0' * 64}
    episode = RecordedEpisode(tmp_path / 'bag', **notes)
    episode.announce(None)
    episode.chunk(0, Chunk(ORIGIN, first_latent=1, observed=0))
    episode.close()
    assert f'{other} has changed since the recording' in message_of(tmp_path / 'bag', capsys=capsys)


def test_a_model_of_another_name_is_refused(driven_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    copy_with(driven_bag, tmp_path / 'bag', "model_seed: '0'", "model_seed: '1'")
    text = message_of(tmp_path / 'bag', capsys=capsys)
    assert "'tiny (untrained, seed 0)'" in text and "'tiny (untrained, seed 1)'" in text


def test_images_that_another_model_needs_must_be_there(
    other: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    episode = RecordedEpisode(tmp_path / 'bag')
    episode.announce(None)
    episode.latent('latents', ORIGIN, 0, np.zeros(episode.model.config.latent_shape))
    episode.chunk(0, Chunk(ORIGIN, first_latent=1, observed=0))
    episode.close()
    assert 'no image of cam_high' in message_of(tmp_path / 'bag', '--checkpoint', other, capsys=capsys)


def test_a_latent_frame_that_was_not_recorded_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    episode = RecordedEpisode(tmp_path / 'bag')
    episode.announce(None)
    episode.latent('latents', ORIGIN, 1, np.zeros(episode.model.config.latent_shape))
    episode.chunk(0, Chunk(ORIGIN, first_latent=1, observed=0))
    episode.close()
    text = message_of(tmp_path / 'bag', capsys=capsys)
    assert f'episode {EPISODE} cannot be replayed from chunk 0 on: the latent frame 0 is not in the bag' in text


def test_an_episode_of_which_a_chunk_is_missing_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    episode = RecordedEpisode(tmp_path / 'bag')
    episode.announce(None)
    episode.latent('latents', ORIGIN, 0, np.zeros(episode.model.config.latent_shape))
    episode.chunk(1, Chunk(ORIGIN, first_latent=3, observed=0))
    episode.restart(ORIGIN + 10**9)
    episode.latent('latents', ORIGIN + 2 * 10**9, 0, np.zeros(episode.model.config.latent_shape))
    episode.chunk(0, Chunk(ORIGIN + 3 * 10**9, first_latent=1, observed=0))
    episode.close()
    assert replayed(tmp_path / 'bag', tmp_path)[0] == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith('it began before the recording')
    assert second.startswith(f'episode {EPISODE + 1}: chunk 0') and second.endswith('0 numbers, not 960')


def test_another_model_that_could_be_evaluated_on_no_episode_is_no_success(other: Path, tmp_path: Path) -> None:
    class WithoutBeginnings(RecordedEpisode):
        def close(self) -> None:
            self._messages.remove(next(m for m in self._messages if m[1] == 'action_chunk'))
            last = max(m[0] for m in self._messages)
            self.restart(last + 2 * 10**9)
            self.chunk(1, Chunk(last + 3 * 10**9, first_latent=3, observed=0))
            super().close()

    drive(tmp_path / 'bag', kind=WithoutBeginnings)
    status, report = replayed(tmp_path / 'bag', tmp_path, '--checkpoint', other)
    assert status == 1 and len([each['error'] for each in report['episodes']]) == 2
