"""The film of a bag: frames, size, and that its halves show what they say."""

import av
import numpy as np
import pytest
import torch
from PIL import Image
from recorded_episode import ACTIONS, DT, LATENT, ORIGIN, PROFILE, VIDEO, Chunk, RecordedEpisode, picture

from lingbot_va_core.streaming import StreamingDecoder
from lingbot_va_core.weights import CheckpointError
from lingbot_va_ros.bag import BagReadError
from lingbot_va_ros.episode_bag import EpisodeBag
from lingbot_va_ros.episode_video import BAR_HEIGHT, TILE_WIDTH, write_contact_sheet, write_video
from lingbot_va_ros.imagined_video import imagined_frames, load_recorded_model

FRAMES = 21
TILE_HEIGHT = 212  # 320 x 213 in even pixels


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """21 video frames, two chunks: the first begins with latent 1, the second goes on in the asynchronous way."""
    path = tmp_path_factory.mktemp('video') / 'bag'
    episode = RecordedEpisode(path, mode=2)
    episode.images(FRAMES, skip=(10,))
    for number in range(2):
        at = ORIGIN + 2 * number * LATENT
        episode.chunk(number, Chunk(at, first_latent=1 + 2 * number, observed=number))
        for index in range(ACTIONS):
            episode.command(at + index * DT, number, index)
    episode.announce(ORIGIN + FRAMES * VIDEO)
    episode.close()
    return path


@pytest.fixture(scope='module')
def video(bag):
    path = bag.parent / 'episode.mp4'
    with EpisodeBag(bag) as opened:
        assert write_video(opened, path) == FRAMES - 1
    return path


def frames_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.codec_context, [(float(f.time), f.to_ndarray(format='rgb24')) for f in container.decode(video=0)]


def test_video_has_a_frame_for_each_video_frame_at_its_time(video):
    codec, frames = frames_of(video)
    assert (codec.name, codec.pix_fmt) == ('h264', 'yuv420p')
    assert [time for time, _ in frames] == pytest.approx([0.08 * n for n in range(FRAMES) if n != 10], abs=1e-4)
    assert frames[0][1].shape == (BAR_HEIGHT + 2 * TILE_HEIGHT, 3 * TILE_WIDTH, 3)


def test_upper_row_shows_the_cameras_and_lower_row_what_was_imagined(video):
    _, frames = frames_of(video)
    _, frame = frames[15]  # the 16th, because frame 10 is missing
    for column in range(3):
        tile = slice(column * TILE_WIDTH, (column + 1) * TILE_WIDTH)
        real = frame[BAR_HEIGHT : BAR_HEIGHT + TILE_HEIGHT, tile]
        below = frame[BAR_HEIGHT + TILE_HEIGHT :, tile]
        wanted = np.array(Image.fromarray(picture(16, column)).resize((TILE_WIDTH, TILE_HEIGHT)))
        difference = np.abs(real[30:-4, 4:-4].astype(int) - wanted[30:-4, 4:-4]).mean()
        assert difference < 6, 'the real camera is not in its place'
        assert np.abs(real[30:].astype(int) - below[30:]).mean() > 20, 'both rows show the same'


def test_imagined_frames_continue_from_the_real_past_of_their_chunk(bag):
    with EpisodeBag(bag) as opened:
        model = load_recorded_model(opened)
        frames = list(imagined_frames(opened.in_episode, len(PROFILE.cameras), model))
        real = {m.index: latents(m) for _, _, m in opened.in_episode('latents')}
        dreamt = {m.index: latents(m) for _, _, m in opened.in_episode('imagined')}
    assert [frame.stamp_ns for frame in frames] == [ORIGIN + n * VIDEO for n in range(1, 17)]
    assert [frame.chunk for frame in frames] == [0] * 8 + [1] * 8
    # Chunk 0 saw real latent 0; chunk 1 saw real 0 and 1, then builds on the imagined latent 2.
    for past, span, shown in (([real[0]], (1, 2), frames[:8]), ([real[0], real[1], dreamt[2]], (3, 4), frames[8:])):
        decoder = StreamingDecoder(model.vae, model.config.rollout)
        decoder.decode(torch.stack(past))
        for expected, frame in zip(decoder.decode(torch.stack([dreamt[i] for i in span])), shown, strict=True):
            for a, b in zip(expected, frame.images, strict=True):
                assert np.abs(a.astype(int) - b).max() <= 1


def test_imagined_frames_belong_to_the_instants_of_the_real_ones_and_each_episode_begins_afresh(tmp_path):
    episode = RecordedEpisode(tmp_path / 'bag', mode=1)
    frame = np.zeros(episode.model.config.latent_shape)
    seen = [ORIGIN + n * VIDEO for n in (3, 4, 9, 10)]
    for restarted in range(2):
        begin = ORIGIN + 30 * restarted * VIDEO
        if restarted:
            episode.restart(begin - VIDEO)
        episode.latent('latents', begin, 0, frame, (begin,))
        episode.chunk(0, Chunk(begin, first_latent=1, observed=0))
        if not restarted:
            episode.latent('latents', seen[-1], 1, frame, tuple(seen))
    episode.announce(ORIGIN + 60 * VIDEO)
    episode.close()
    with EpisodeBag(tmp_path / 'bag') as opened:
        frames = list(imagined_frames(opened.in_episode, len(PROFILE.cameras), load_recorded_model(opened)))
    assert [each.stamp_ns for each in frames[:8]] == [*seen, *(ORIGIN + n * VIDEO for n in (5, 6, 7, 8))]
    assert [each.stamp_ns for each in frames[8:]] == [ORIGIN + (30 + n) * VIDEO for n in range(1, 9)]
    for first, again in zip(frames[:8], frames[8:], strict=True):
        for a, b in zip(first.images, again.images, strict=True):
            np.testing.assert_array_equal(a, b)


def latents(message) -> torch.Tensor:
    values = np.frombuffer(message.data.tobytes(), '<f2').astype(np.float32)
    return torch.from_numpy(values.reshape(message.channels, message.height, message.width))


def test_contact_sheet_shows_different_moments(video):
    path = video.with_name('preview.png')
    write_contact_sheet(video, path)
    with Image.open(path) as sheet:
        pixels = np.array(sheet)
    height, width = pixels.shape[0] // 3, pixels.shape[1] // 2
    first, last = pixels[: height - 8, : width - 8], pixels[-height + 8 :, -width + 8 :]
    assert pixels.std() > 20 and np.abs(first.astype(int) - last).mean() > 3


def test_camera_without_images_leaves_no_file(tmp_path):
    episode = RecordedEpisode(tmp_path / 'bag')
    episode.command(ORIGIN)
    episode.announce(ORIGIN + VIDEO)
    episode.close()
    with EpisodeBag(tmp_path / 'bag') as opened, pytest.raises(BagReadError, match='no image of cam_high'):
        write_video(opened, tmp_path / 'episode.mp4')
    assert [path.name for path in tmp_path.iterdir()] == ['bag']


def test_bag_of_another_model_is_refused(tmp_path):
    episode = RecordedEpisode(tmp_path / 'bag')
    episode.model.name = 'another model'
    episode.chunk(0, Chunk(ORIGIN, first_latent=1, observed=0))
    episode.announce(ORIGIN + len(PROFILE.cameras) * LATENT)
    episode.close()
    with EpisodeBag(tmp_path / 'bag') as opened, pytest.raises(CheckpointError, match='another model'):
        load_recorded_model(opened)
