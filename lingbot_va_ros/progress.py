"""The progress bar of commands that go through episodes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def episode_progress() -> 'Progress':
    """Return a bar that says what is counted, how many of how many, and the time that is left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left:'),
        TimeRemainingColumn(),
    )
