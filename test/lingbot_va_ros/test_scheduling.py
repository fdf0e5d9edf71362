"""Real-time scheduling, in a process of its own."""

import os
import subprocess
import sys

SCRIPT = """
import os, threading
from lingbot_va_ros.scheduling import request_realtime
{before}
end = threading.Event()
before = threading.Thread(target=end.wait); before.start()
refusal = request_realtime({priority})
after = threading.Thread(target=end.wait); after.start()
policies = [os.sched_getscheduler(each) for each in (0, before.native_id, after.native_id)]
print(policies, os.sched_getparam(0).sched_priority, repr(refusal))
back = request_realtime(0)
print([os.sched_getscheduler(each) for each in (0, before.native_id, after.native_id)], repr(back))
end.set()
"""


def outcome(script: str) -> list[str]:
    finished = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    return finished.stdout.splitlines()


def test_all_threads_get_the_priority_and_lose_it_again() -> None:
    asked, back = outcome(SCRIPT.format(priority=10, before=''))
    if 'refused' in asked:
        assert str([os.SCHED_OTHER] * 3) in asked and 'limits.conf' in asked
    else:
        assert asked == f"{[os.SCHED_FIFO] * 3} 10 ''"
    assert back == f"{[os.SCHED_OTHER] * 3} ''"


def test_where_it_is_not_permitted_the_remedy_is_named() -> None:
    drop = 'import resource; resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))'
    if os.geteuid() == 0:
        drop += '; os.setuid(65534)'  # after the import: nobody may not read what root has installed
    asked, _ = outcome(SCRIPT.format(priority=10, before=drop))
    assert 'real-time priority 10 was refused' in asked and 'rtprio' in asked
