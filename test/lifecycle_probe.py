"""A real lifecycle node whose parameters say how it behaves; it appends what happens to it to a file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Probe(LifecycleNode):
    """Reports every transition; `behaviour` is '', or one of those that `main` and the transitions name."""

    def __init__(self) -> None:
        super().__init__('probe')
        self.behaviour = self.declare_parameter('behaviour', '').value
        self._journal = Path(self.declare_parameter('journal', '').value)
        self.note(f'start text={self.declare_parameter("text", "default").value}')

    def note(self, event: str) -> None:
        """Append one line to the journal, in one write."""
        with self._journal.open('a') as journal:
            journal.write(f'{self.get_name()} {event}\n')

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Configure, or refuse, or take its time, or leave a process behind."""
        if self.behaviour == 'refuse':
            self.get_logger().error("cannot configure: task is 'juggle'; choose one of transfer_cube")
            return FAILURE
        if self.behaviour == 'slow':
            time.sleep(600)
        if self.behaviour == 'descendant':
            process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
            self.note(f'descendant={process.pid}')
        return self._made('configure')

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Activate, then perhaps end soon."""
        if self.behaviour == 'exit':
            self.create_timer(0.2, lambda: sys.exit('the camera is gone'))
        return self._made('activate')

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate."""
        return self._made('deactivate')

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Clean up."""
        return self._made('cleanup')

    def _made(self, transition: str) -> TransitionCallbackReturn:
        self.note(transition)
        return SUCCESS


def main() -> None:
    """Run the node until a signal that it listens to."""
    rclpy.init()
    probe = Probe()
    if probe.behaviour == 'stubborn':
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    probe.note(f'nice={os.nice(0)}')
    try:
        rclpy.spin(probe)
    except (KeyboardInterrupt, ExternalShutdownException):
        probe.note('end')


if __name__ == '__main__':
    main()
