"""A recording in Rerun: in its window, or as a file for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lingbot_va_core.robot import RobotProfile
from lingbot_va_ros import viewer
from lingbot_va_ros.atomic import replaced
from lingbot_va_ros.bag import Bag, BagReadError
from lingbot_va_ros.imagined_video import decodable_model, imagined_frames
from lingbot_va_ros.rerun_scene import RerunScene

MEMORY = '75%'  # of the machine's: all of a recording is to be seen


class ViewError(RuntimeError):
    """Rerun cannot be used here, in one line."""


def view(bag: Bag, profile: RobotProfile, device: str | None, say: Callable[[str], None]) -> None:
    """Open Rerun's window with a recording, until somebody closes it.

    Args:
        bag: open.
        profile: of the robot.
        device: that decodes what was imagined; None: that of the recording.
        say: told what cannot be shown.

    Raises:
        ViewError: there is no screen, or Rerun is not installed.
        BagReadError: the bag has nothing to be seen, or cannot be read.
    """
    if reason := viewer.obstacle():
        raise ViewError(f'no view: {reason}; --rrd and --foxglove write files')
    with viewer.window(MEMORY) as (process, address):
        stream = _stream()
        stream.connect_grpc(address)
        _fill(stream, bag, profile, device, say)
        stream.disconnect()  # the window keeps what it has
        process.wait()


def write_rrd(bag: Bag, profile: RobotProfile, device: str | None, path: Path, say: Callable[[str], None]) -> None:
    """Write what `view` shows to a file, whole or not at all; otherwise as `view`."""
    if reason := viewer.missing_library():
        raise ViewError(f'no file for Rerun: {reason}')
    with replaced(path) as temporary:
        stream = _stream()
        stream.save(temporary)
        _fill(stream, bag, profile, device, say)
        stream.disconnect()
    say(f'{path}: open it with `rerun {path}`')


def _stream() -> Any:
    import rerun as rr

    return rr.RecordingStream(viewer.APPLICATION)


def _fill(stream: Any, bag: Bag, profile: RobotProfile, device: str | None, say: Callable[[str], None]) -> None:
    """Log a whole bag."""
    scene = RerunScene(stream, profile, compress=True)
    topics = [topic for topic in scene.handlers if bag.has(topic)]
    if not topics:
        raise BagReadError(f'{bag.path} has no topic of {profile.name}; name another profile with --robot')
    for topic, _, message in bag.messages(*topics):
        scene.handlers[topic](message)
    model = decodable_model(bag, profile, device, say)
    if model is not None:
        for frame in imagined_frames(bag.messages, len(profile.cameras), model):
            scene.imagined(frame.stamp_ns, frame.images)
    stream.flush()
