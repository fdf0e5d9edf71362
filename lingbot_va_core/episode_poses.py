"""Poses that a checkpoint predicts relative to where the task began, and the tools' poses in their base frames."""

import numpy as np

from lingbot_va_core.poses import PoseError, absolute_actions, relative_actions


class EpisodePoses:
    """Holds the anchor, the action with which a task began; see `poses.py` for what relative means.

    A task whose context is restarted goes on in another episode, but keeps its anchor: the robot has moved, the place
    that everything is relative to has not.
    """

    def __init__(self, mask: np.ndarray) -> None:
        """Serve a robot with these channels in use, bool [30]."""
        self._mask = mask
        self.task: int | None = None
        self._origin = self._sent = self._reported = None

    def anchor(self, task: int, action: np.ndarray) -> bool:
        """Anchor a task at a universal action [30] with absolute poses, once; return whether it was new.

        Raises:
            PoseError: a pose in use is not finite or has no orientation; the anchor stays as it was.
        """
        if task == self.task:
            return False
        relative_actions(action[None], self._mask, action)
        self.task, self._origin = task, np.array(action, dtype=np.float64)
        self._sent = self._reported = None
        return True

    def absolute(self, actions: np.ndarray) -> np.ndarray:
        """Return predicted actions [T, 30] with absolute poses, float64, which join the ones before without a jump.

        Raises:
            PoseError: no task is anchored, or a predicted pose is not finite or has no orientation: hold.
        """
        result = absolute_actions(actions, self._mask, self._anchored(), self._sent)
        self._sent = result[-1] if len(result) else self._sent
        return result

    def relative(self, actions: np.ndarray) -> np.ndarray:
        """Return executed actions [T, 30], absolute, as the checkpoint knows them; errors as in `absolute`."""
        result = relative_actions(actions, self._mask, self._anchored(), self._reported)
        self._reported = result[-1] if len(result) else self._reported
        return result

    def _anchored(self) -> np.ndarray:
        if self._origin is None:
            raise PoseError('no task is anchored, so relative poses mean nothing; anchor one where it begins')
        return self._origin
