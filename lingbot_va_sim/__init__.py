"""MuJoCo robots, tasks, cameras and trajectory controllers."""

import os

# `import mujoco` loads whatever MUJOCO_GL names and ends in a traceback where that is missing. Hidden from it, the
# choice is made in `gl`, which says what to install.
_choice = os.environ.pop('MUJOCO_GL', None)
try:
    import mujoco  # noqa: F401
finally:
    if _choice is not None:
        os.environ['MUJOCO_GL'] = _choice
