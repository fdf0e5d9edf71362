"""Finds files: config/ and launch/ beside the code, and those that a profile names."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from site import getuserbase
from sysconfig import get_path


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


def find_resource(source: str, folder: Path | None) -> Path:
    """Find a file that a profile names.

    Args:
        source: a path, absolute or relative to `folder`; `python://MODULE/FILE`, a file of an installed Python package;
            or `package://PACKAGE/FILE`, one of the share folder of a ROS package, or of a Python
            package that installs one there.
        folder: where relative paths start; None if it is not known.

    Raises:
        FileNotFoundError: there is no such file; the message says where it was sought.
    """
    scheme, separator, rest = source.partition('://')
    if not separator:
        if folder is None and not Path(source).is_absolute():
            raise FileNotFoundError(f"'{source}' is relative to a profile that is no file; give an absolute path")
        candidates = [Path(folder or '', source)]
    elif scheme == 'python':
        module, _, file = rest.partition('/')
        candidates = [root / file for root in _module_folders(module)]
        if not candidates:
            raise FileNotFoundError(f"'{source}': the Python package {module} is not installed; install it with pip")
    elif scheme == 'package':
        prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
        roots = dict.fromkeys((*prefixes, sys.prefix, get_path('data'), getuserbase()))  # of colcon and of pip
        candidates = [Path(root) / 'share' / rest for root in roots]
    else:
        raise FileNotFoundError(
            f"'{source}' is not understood; give a path, python://MODULE/FILE or package://NAME/FILE"
        )
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise FileNotFoundError(f"'{source}' was not found: no file {' or '.join(map(str, candidates))}")


def _module_folders(module: str) -> list[Path]:
    """Return the folders of a top-level Python package without importing it."""
    spec = find_spec(module) if module.isidentifier() else None
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
