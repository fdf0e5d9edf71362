"""A data set of three episodes, and what it was written with."""

from pathlib import Path

import pytest
from small_dataset import make_spec, write_small

from lingbot_va_core.datasets.layout import DatasetSpec
from lingbot_va_core.datasets.reader import Dataset


@pytest.fixture
def spec() -> DatasetSpec:
    return make_spec()


@pytest.fixture
def dataset(tmp_path: Path, spec: DatasetSpec) -> Dataset:
    """Three episodes of 9, 9 and 13 frames; the second one failed."""
    return write_small(tmp_path / 'data', spec)
