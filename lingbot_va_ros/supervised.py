"""Runs a node's module in this process, which the kernel ends as soon as its supervisor is gone.

Usage: python -m lingbot_va_ros.supervised SUPERVISOR_PID NICE MODULE [ARGUMENT...]
"""

import contextlib
import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Tie this process to its supervisor, set its niceness and run the module as `__main__`."""
    supervisor, nice, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if sys.platform == 'linux':
        # SIGKILL: a node that hangs must not outlive its supervisor either. The trajectory controllers hold.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        sys.exit('the supervisor has ended')
    with contextlib.suppress(PermissionError):  # a niceness below the present one needs a privilege
        os.nice(nice)
    sys.argv[:] = [module, *sys.argv[4:]]
    try:
        runpy.run_module(module, run_name='__main__', alter_sys=True)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # asked to end while it was still importing


if __name__ == '__main__':
    main()
