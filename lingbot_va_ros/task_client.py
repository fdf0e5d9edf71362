"""Asks a running graph to do a task, and waits for what comes of it."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.action import ActionClient
from rclpy.task import Future

from lingbot_va_msgs.action import RunTask
from lingbot_va_ros.client_node import ClientNode

OUTCOMES = {
    RunTask.Result.SUCCEEDED: 'succeeded',
    RunTask.Result.TIME_LIMIT: 'time_limit',
    RunTask.Result.CANCELED: 'canceled',
    RunTask.Result.FAILED: 'failed',
}
POLL_S = 0.1


class TaskError(RuntimeError):
    """A task that could not be started, or whose graph is gone."""


@dataclass(frozen=True)
class TaskResult:
    """What came of a task. `outcome` is 'succeeded', 'time_limit', 'canceled' or 'failed'."""

    outcome: str
    message: str
    episode: int
    chunks: int
    elapsed_s: float


def run_task(
    instruction: str,
    time_limit_s: float,
    *,
    namespace: str = '',
    stop: Callable[[], bool] = lambda: False,
    feedback: Callable[[RunTask.Feedback], None] = lambda feedback: None,
    patience_s: float = 10.0,
    client: ClientNode | None = None,
) -> TaskResult:
    """Run one episode and return its result. Blocks; uses an rclpy context of its own.

    A process that runs several tasks should bring a `client`: it may take Fast DDS 3 s until a new context and the
    nodes know each other.

    Args:
        instruction: what the arms shall do; empty: the instruction that the world model has.
        time_limit_s: length of the episode at most.
        namespace: of the graph.
        stop: asked often; once true, the task is canceled.
        feedback: called in this thread about once a second.
        patience_s: how long the world model may take to accept or to cancel.
        client: to ask with, used by this thread alone meanwhile; its namespace counts.

    Raises:
        TaskError: the world model is not there, refuses the goal, or does not end it after a cancel.
    """
    own = contextlib.nullcontext(client) if client else ClientNode('task_client', namespace)
    with own as asker, contextlib.ExitStack() as stack:
        tasks = ActionClient(asker.node, RunTask, 'run_task')
        stack.callback(tasks.destroy)

        def wait(future: Future, patience: float, stop: Callable[[], bool] = lambda: False) -> bool:
            end = time.monotonic() + patience
            while not future.done() and time.monotonic() < end and not stop():
                asker.executor.spin_once(timeout_sec=POLL_S)
            return future.done()

        if not tasks.wait_for_server(patience_s):
            raise TaskError(f'run_task is not offered in namespace {asker.node.get_namespace()}; is the graph active?')
        goal = RunTask.Goal(instruction=instruction)
        fraction, seconds = math.modf(time_limit_s)
        goal.time_limit.sec, goal.time_limit.nanosec = int(seconds), int(fraction * 1e9)
        accepted = tasks.send_goal_async(goal, lambda message: feedback(message.feedback))
        if not wait(accepted, patience_s):
            raise TaskError(f'the world model did not answer within {patience_s:g} s')
        handle = accepted.result()
        if not handle.accepted:
            raise TaskError('the world model refused the task; its log says why')
        result = handle.get_result_async()
        if not wait(result, math.inf, stop):
            handle.cancel_goal_async()
            if not wait(result, patience_s):
                raise TaskError(f'the task was canceled, but the world model did not end it within {patience_s:g} s')
        return _result(result.result().result)


def _result(message: RunTask.Result) -> TaskResult:
    return TaskResult(
        outcome=OUTCOMES.get(message.outcome, f'outcome {message.outcome}'),
        message=message.message,
        episode=message.episode,
        chunks=message.chunks,
        elapsed_s=message.elapsed.sec + message.elapsed.nanosec * 1e-9,
    )
