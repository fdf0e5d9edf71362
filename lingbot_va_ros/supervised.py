"""Runs a node's module in this process, which the kernel ends as soon as its supervisor is gone.

Usage: python -m lingbot_va_ros.supervised SUPERVISOR_PID NICE MODULE [ARGUMENT...]
"""

import contextlib
import ctypes
import importlib
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Tie this process to its supervisor, set its niceness and call the module's `main`, as its console script does."""
    supervisor, nice, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if sys.platform == 'linux':
        # SIGKILL: a node that hangs must not outlive its supervisor either. The trajectory controllers hold.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        sys.exit('the supervisor has ended')
    with contextlib.suppress(PermissionError):  # a niceness below the present one needs a privilege
        os.nice(nice)
    # A shell without job control starts background commands, and so their children, with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[:] = [module, *sys.argv[4:]]
    try:
        sys.exit(importlib.import_module(module).main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # asked to end while it was still importing


if __name__ == '__main__':
    main()
