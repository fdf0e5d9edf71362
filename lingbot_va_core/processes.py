"""Jobs in several processes, none of which is lost."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Job = TypeVar('Job')
Result = TypeVar('Result')


def in_processes(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Call `function` with each job, and yield what it returns, in any order; jobs are begun in theirs.

    When nobody waits for the rest, because of an error, Ctrl-C or the end of the caller's loop, the processes are ended
    where they are.

    Args:
        function: of a module, as it is found again by its name in new processes; it may keep things there.
        jobs: can be pickled, as can be results; not empty.
        workers: processes; no more are started than there are jobs.

    Raises:
        RuntimeError: a process died.
        Exception: what `function` raises.
    """
    jobs, others = list(jobs), set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        min(workers, len(jobs)),
        multiprocessing.get_context('spawn'),
        signal.signal,
        (signal.SIGINT, signal.SIG_IGN),  # Ctrl-C is for the parent
    )
    try:
        for done in as_completed(_submitted(executor, function, jobs)):
            yield done.result()
    except BaseException as error:
        # A broken pool has ended its processes, but not one that was being started as the other died.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise RuntimeError('a worker process died; if memory was short, try again with fewer of them') from error
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _submitted(
    executor: ProcessPoolExecutor, function: Callable[[Job], Result], jobs: list[Job]
) -> list[Future[Result]]:
    try:
        return [executor.submit(function, job) for job in jobs]
    except OSError as error:  # of a process that cannot be started, as another died and the pool closed its pipes
        raise BrokenProcessPool(str(error)) from error
