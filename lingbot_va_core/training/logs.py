"""What a run tells: a progress bar, a CSV file and TensorBoard."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

CSV, TENSORBOARD = 'log.csv', 'tensorboard'


class RunLog:
    """Log of a run in its folder. A resumed run goes on in the same files; rows of steps that it repeats are dropped.

    Args:
        folder: of the run.
        columns: names of all values that may come.
        first: step that the run begins with.
        steps: all steps of the run.
        label: shown before the progress bar; None: no bar.
    """

    def __init__(self, folder: Path, columns: Sequence[str], first: int, steps: int, label: str | None) -> None:
        from tensorboardX import SummaryWriter

        self._columns = ['step', *columns]
        path = folder / CSV
        rows = []
        if path.is_file():
            with path.open(newline='') as file:
                rows = [row for row in csv.DictReader(file) if row['step'].isdigit() and int(row['step']) <= first]
        fresh = path.with_suffix('.new')
        with fresh.open('w', newline='') as file:
            writer = csv.DictWriter(file, self._columns, extrasaction='ignore', lineterminator=os.linesep)
            writer.writeheader()
            writer.writerows(rows)
        fresh.replace(path)
        self._file = path.open('a', newline='')
        self._csv = csv.DictWriter(self._file, self._columns, lineterminator=os.linesep)
        self._board = SummaryWriter(str(folder / TENSORBOARD), purge_step=first or None)
        self._bar = _progress_bar(label, first, steps) if label else None

    def __enter__(self) -> 'RunLog':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()
        if self._bar:
            self._bar.stop()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row after `step` steps."""
        self._csv.writerow({'step': step, **{name: f'{value:.6g}' for name, value in values.items()}})
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def advance(self, step: int, shown: Mapping[str, float]) -> None:
        """Move the progress bar to `step`."""
        if self._bar:
            text = '  '.join(f'{name} {value:.4f}' for name, value in shown.items())
            self._bar.update(self._bar.task_ids[0], completed=step, values=text)

    def picture(self, path: Path, step: int) -> None:
        """Add a PNG file to TensorBoard."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._board.add_image(
                path.stem.rsplit('-', 1)[0], np.asarray(image.convert('RGB')), step, dataformats='HWC'
            )


def _progress_bar(label: str, first: int, steps: int) -> 'Progress':
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn('{task.fields[values]}'))
    bar.add_task(label, total=steps, completed=first, values='')
    bar.start()
    return bar
