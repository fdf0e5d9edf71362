"""The modes of inference by name (docs/architecture.md); importable without rclpy."""

MODES = ('sync', 'naive', 'fdm')  # indexed by the constants of Episode.msg
