"""Real-time scheduling of a process whose ticks must not wait for other work."""

import os
from pathlib import Path

THREADS = Path('/proc/self/task')


def request_realtime(priority: int) -> str:
    """Schedule all threads of this process first in, first out, ahead of every ordinary process; 0: ordinarily.

    Threads that are started later inherit it. The kernel still leaves a share of each second to the others
    (sched_rt_runtime_us), so that a thread in an endless loop does not take the machine.

    Args:
        priority: 1 to 99, as `chrt` shows it.

    Returns:
        Why it was refused, or ''.
    """
    policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
    for thread in THREADS.iterdir():
        try:
            os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))
        except ProcessLookupError:
            continue  # it has ended meanwhile
        except OSError as error:
            return (
                f'real-time priority {priority} was refused ({error.strerror}): other work can delay the ticks; allow '
                'rtprio in /etc/security/limits.conf, or --ulimit rtprio=99 for a container'
            )
    return ''
