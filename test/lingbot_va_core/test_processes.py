"""Jobs in processes: all results come, an error ends the rest, and a process that dies is not waited for."""

import math
import multiprocessing
import os
import time

import pytest

from lingbot_va_core.processes import in_processes


def test_every_result_comes_once():
    assert sorted(in_processes(math.factorial, [5, 3, 4, 0], workers=2)) == [1, 6, 24, 120]
    assert multiprocessing.active_children() == []


def test_an_error_of_a_job_reaches_the_caller_and_ends_the_others():
    began = time.monotonic()
    with pytest.raises(TypeError):
        list(in_processes(time.sleep, ['long', 60], workers=2))
    assert time.monotonic() - began < 50 and multiprocessing.active_children() == []


def test_a_process_that_dies_is_an_error():
    with pytest.raises(RuntimeError, match='a worker process died; if memory was short'):
        list(in_processes(os._exit, [0, 0, 0], workers=1))
    assert multiprocessing.active_children() == []


def test_who_stops_listening_ends_the_processes():
    results = in_processes(time.sleep, [0, 60], workers=2)
    next(results)
    results.close()
    assert multiprocessing.active_children() == []
