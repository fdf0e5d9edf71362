"""Finds the files that are installed beside the code: config/ and launch/."""

import os
import sys
from pathlib import Path


def share_dir() -> Path:
    """Return the folder that holds `config/`.

    In a checkout it is the repository's root; installed, it is `share/lingbot_va` under one of the prefixes of
    `AMENT_PREFIX_PATH` (colcon) or under `sys.prefix` (pip).

    Raises:
        FileNotFoundError: none of them holds `config/robots`.
    """
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    candidates = [Path(__file__).resolve().parents[1]]
    candidates += [Path(prefix) / 'share' / 'lingbot_va' for prefix in (*prefixes, sys.prefix)]
    for candidate in candidates:
        if (candidate / 'config' / 'robots').is_dir():
            return candidate
    searched = ', '.join(str(c) for c in candidates)
    raise FileNotFoundError(f'config/robots was not found in {searched}; reinstall lingbot_va')
