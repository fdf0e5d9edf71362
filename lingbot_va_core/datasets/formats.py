"""The versions of the LeRobot format that can be written, and where they differ while episodes are recorded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lingbot_va_core.datasets import assembly, layout, v21
from lingbot_va_core.datasets.layout import DatasetError, DatasetSpec


@dataclass(frozen=True)
class Format:
    """A version of the format.

    Attributes:
        video_path: where the video of a camera and an episode is, relative to the data set.
        images_per_frame: how often its videos repeat an image: once for each of their rows.
        assemble: joins staged episodes into the tables below a folder.
    """

    video_path: Callable[[str, int], str]
    images_per_frame: Callable[[DatasetSpec], int]
    assemble: Callable[[Path, DatasetSpec, list[Path]], None]


FORMATS = {
    layout.VERSION: Format(layout.video_path, lambda spec: 1, assembly.assemble),
    v21.VERSION: Format(v21.video_path, lambda spec: spec.steps, v21.assemble),
}


def find_format(version: str) -> Format:
    """Return a version; raises DatasetError when it is unknown."""
    if version not in FORMATS:
        raise DatasetError(f"the format is '{version}'; choose one of {', '.join(FORMATS)}")
    return FORMATS[version]
