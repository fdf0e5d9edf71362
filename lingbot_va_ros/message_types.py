"""The message definitions that make a bag self-describing, for the `rosbags` library."""

import os
import sys
from functools import cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore


def definitions_folder() -> Path:
    """Return the folder of the installed `lingbot_va_msgs/msg/*.msg` files.

    Raises:
        FileNotFoundError: the package is not installed under AMENT_PREFIX_PATH (colcon) or sys.prefix (pip).
    """
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    folders = [Path(prefix) / 'share' / 'lingbot_va_msgs' / 'msg' for prefix in (*prefixes, sys.prefix)]
    for folder in folders:
        if any(folder.glob('*.msg')):
            return folder
    searched = ', '.join(str(folder) for folder in folders)
    raise FileNotFoundError(f'the message definitions of lingbot_va_msgs were not found in {searched}; install it')


@cache
def message_types() -> Typestore:
    """Return the messages of ROS 2 Jazzy and ours; what we use of the former is the same from Humble to Kilted."""
    store = get_typestore(Stores.ROS2_JAZZY)
    ours = {}
    for path in sorted(definitions_folder().glob('*.msg')):
        ours.update(get_types_from_msg(path.read_text(), f'lingbot_va_msgs/msg/{path.stem}'))
    store.register(ours)
    return store
