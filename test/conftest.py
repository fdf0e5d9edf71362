"""The ROS environment of the tests: a domain of their own, on this machine only, set before rclpy is imported."""

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOMAINS = 101  # above that the ports of Fast DDS can collide with ephemeral ones


def _reserve_domain() -> int:
    """Take a domain that no other test process on this machine holds; the lock lasts as long as this process."""
    for attempt in range(DOMAINS):
        domain = 1 + (os.getpid() + attempt) % DOMAINS
        lock = os.open(Path(tempfile.gettempdir()) / f'lingbot_va_domain_{domain}.lock', os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return domain
    raise RuntimeError(f'all {DOMAINS} ROS domains are in use by other test runs')


for folder in (ROOT / 'test', ROOT):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
os.environ.update(
    ROS_DOMAIN_ID=str(_reserve_domain()),
    ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
    FASTRTPS_DEFAULT_PROFILES_FILE=str(ROOT / 'config' / 'fastdds.xml'),
    ROS_PYTHON_CHECK_FIELDS='1',
    ROS_LOG_DIR=tempfile.mkdtemp(prefix='lingbot_va_log_'),
    OMP_NUM_THREADS='1',
)
os.environ.pop('ROS_LOCALHOST_ONLY', None)


STARTS_NODES = {'Bringup', 'Graph', 'Program', 'Stage', 'rclpy'}  # what a module imports for that


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that start nodes: deadlines hold where they have the machine to themselves."""
    for item in items:
        starts = 'lingbot_va_ros' in item.path.parts and STARTS_NODES & set(vars(item.module))
        if starts and not item.get_closest_marker('patient'):
            item.add_marker('graph')


@pytest.fixture
def graph() -> Iterator['object']:
    """A `support.Graph`: a node of the test's own, spun by a thread."""
    from support import Graph

    with Graph() as node:
        yield node
