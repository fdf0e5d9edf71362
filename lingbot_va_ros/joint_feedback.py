"""What the robot reports about its joints, which may come arm by arm, and how old and how consistent it is."""

from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import JointState

from lingbot_va_core.robot import RobotProfile
from lingbot_va_ros.conversions import to_ns

NEVER = -(2**62)


class JointFeedback:
    """The newest measured positions, float64 [joints] in the order of the profile, nan where none came yet.

    Attributes:
        rejected: messages that contradicted themselves; they change nothing.
    """

    def __init__(self, profile: RobotProfile) -> None:
        self._names = [joint.name for joint in profile.joints]
        self._index = {name: i for i, name in enumerate(self._names)}
        self._arm = np.repeat(np.arange(len(profile.arms)), [len(arm.joints) for arm in profile.arms])
        self.rejected = 0
        self.clear()

    def clear(self) -> None:
        """Forget what was measured."""
        self.positions = np.full(len(self._names), np.nan)
        self._received_ns = np.full(len(self._names), NEVER, dtype=np.int64)
        self._stamp_ns = np.zeros(len(self._names), dtype=np.int64)
        self._known: tuple[Sequence[str], np.ndarray, np.ndarray] | None = None

    def add(self, message: JointState, now_ns: int) -> bool:
        """Take the joints that are ours from a message; return whether it had one.

        A message whose lengths differ, or one of whose positions that we need is not finite, is rejected as a whole.
        """
        if self._known is None or self._known[0] != message.name:  # the names hardly ever change
            pairs = [(i, self._index[name]) for i, name in enumerate(message.name) if name in self._index]
            columns = np.array(pairs, dtype=np.intp).reshape(-1, 2)
            self._known = list(message.name), columns[:, 0], columns[:, 1]
        _, theirs, ours = self._known
        if not len(ours):
            return False
        if len(message.position) != len(message.name):
            self.rejected += 1
            return False
        positions = np.array(message.position)[theirs]
        if not np.isfinite(positions).all():
            self.rejected += 1
            return False
        self.positions[ours] = positions
        self._received_ns[ours] = now_ns
        self._stamp_ns[ours] = to_ns(message.header.stamp)
        return True

    @property
    def missing(self) -> list[str]:
        """Joints that were not measured yet."""
        return [name for name, position in zip(self._names, self.positions, strict=True) if not np.isfinite(position)]

    def lost(self) -> str:
        """Say which joints are missing."""
        missing = self.missing
        if not missing:
            return 'they have stopped; is the robot running?'
        if len(missing) == len(self._names):
            return 'they never came; is the robot running?'
        return f'there is no position of {", ".join(missing)}, so nothing is commanded'

    @property
    def complete(self) -> bool:
        """Whether every joint was measured."""
        return bool(np.isfinite(self.positions).all())

    def age_ns(self, now_ns: int) -> int:
        """Time since the joint was received that was not received for longest."""
        return now_ns - int(self._received_ns.min()) if len(self._names) else 0

    def skew_ns(self) -> int:
        """Largest difference between the stamps of two arms; 0 for one arm, and for robots that do not stamp."""
        if len(self._names) == 0 or not self._stamp_ns.all():
            return 0
        oldest = [int(self._stamp_ns[self._arm == arm].min()) for arm in np.unique(self._arm)]
        return max(oldest) - min(oldest)
