"""One recorded episode in simulation: graph up, task, graph down, then numbers and a film from the bag."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from lingbot_va_msgs.action import RunTask
from lingbot_va_ros.atomic import write_json
from lingbot_va_ros.bringup import Bringup, BringupError
from lingbot_va_ros.episode_bag import EpisodeBag
from lingbot_va_ros.episode_summary import summarize
from lingbot_va_ros.episode_video import write_contact_sheet, write_video
from lingbot_va_ros.graph_parameters import ParametersError, read_parameters
from lingbot_va_ros.ros_domain import free_domain
from lingbot_va_ros.side_process import Recorder, SideProcess, SideProcessError
from lingbot_va_ros.signals import when_asked_to_end
from lingbot_va_ros.task_client import TaskError, TaskResult, run_task

READY_S = 15.0
TAIL_S = 1.2  # diagnostics come once a second: the last ones still get into the bag
STATES = ('idle', 'observing', 'predicting', 'executing')  # Status.state
PROBLEM = re.compile(r'\[(WARN|ERROR|FATAL)\]|Traceback|Error:')


class DemoError(RuntimeError):
    """An episode that did not run to its end, or whose record is incomplete, in one line."""


@dataclass(frozen=True)
class DemoOptions:
    """What to run. `instruction` None: the task's own."""

    seconds: float
    out: Path
    namespace: str
    instruction: str | None
    view: bool


class Output:
    """Everything that is said: problems and progress to people, all of it to a log file."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        """Take a line of a process, from any thread."""
        self.lines.append(line)
        if line.startswith('[bringup') or PROBLEM.search(line):
            style = 'yellow' if PROBLEM.search(line) else 'dim'
            self.console.print(line, markup=False, highlight=False, soft_wrap=True, style=style)


def run_demo(make_graph: Callable[[Callable[[str], None]], Bringup], options: DemoOptions) -> dict[str, Any]:
    """Run an episode and leave `options.out` with bag, summary, film and log; return the summary.

    Args:
        make_graph: prepares the graph, given where its output goes.
        options: see `DemoOptions`.

    Raises:
        DemoError, BringupError, TaskError, SideProcessError, ParametersError: it did not work; what was recorded so far
            is in `<out>.failed`, and an earlier `out` is as it was.
        ValueError: a node refused its parameters.
    """
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.setdefault('ROS_DOMAIN_ID', str(free_domain()))
    output = Output()
    graph = make_graph(output.log)
    out = options.out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f'.{out.name}.'))
    work.chmod(0o755)
    try:
        with _interruptible(graph):
            result = _run_episode(graph, options, work / 'bag', output)
            summary = _report(result, options, work, output)
            _write_log(work, output)
            _replace(out, work)
        return summary
    except BringupError as error:
        _keep(out, work, output)
        if error.returncode == 2:
            raise ValueError(str(error)) from error
        raise
    except (ValueError, OSError, RuntimeError):
        _keep(out, work, output)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


# The episode


def _run_episode(graph: Bringup, options: DemoOptions, bag: Path, output: Output) -> TaskResult:
    with graph:
        try:
            return _record_task(graph, options, bag, output)
        except (TaskError, SideProcessError, ParametersError):
            _check(graph)  # the cause, if a node is gone
            raise


def _record_task(graph: Bringup, options: DemoOptions, bag: Path, output: Output) -> TaskResult:
    def check() -> None:
        _check(graph)

    chosen = ['robot', 'preset', 'chosen_checkpoint', 'model_seed']
    model = read_parameters('world_model', chosen, options.namespace, check)
    task = read_parameters('sim_bridge', ['chosen_task', 'instruction', 'seed'], options.namespace, check)
    task['task'], model['checkpoint'] = task.pop('chosen_task'), model.pop('chosen_checkpoint')
    robot, instruction = model.pop('robot'), options.instruction or task.pop('instruction')
    if model['checkpoint'] and Path(model['checkpoint']).exists():  # else a Hub id
        model['checkpoint'] = str(Path(model['checkpoint']).absolute())
    arguments = ['--robot', robot, '--out', str(bag), '--namespace', options.namespace]
    for key, value in (model | task).items():
        arguments += ['--metadata', f'{key}={value}']
    with Recorder(arguments, output.log) as recorder, _viewer(robot, options, output):
        recorder.wait_until_ready(READY_S, check)
        result = _run_task(graph, recorder, instruction, options, output)
        if graph.failed.wait(TAIL_S):
            _check(graph)
        recorder.finish()
    return result


def _run_task(graph: Bringup, recorder: Recorder, instruction: str, options: DemoOptions, output: Output) -> TaskResult:
    columns = (
        SpinnerColumn(), TextColumn('{task.description}'), BarColumn(),
        TextColumn('{task.completed:.0f}/{task.total:.0f} s'), TextColumn('{task.fields[chunks]} chunks'),
        TextColumn('{task.fields[state]}'),
    )  # fmt: skip
    with Progress(*columns, console=output.console, transient=True) as progress:
        bar = progress.add_task(instruction, total=options.seconds, chunks=0, state=STATES[0])

        def show(feedback: RunTask.Feedback) -> None:
            elapsed = feedback.elapsed.sec + feedback.elapsed.nanosec * 1e-9
            progress.update(bar, completed=elapsed, chunks=feedback.chunks, state=STATES[feedback.state])

        result = run_task(
            instruction,
            options.seconds,
            namespace=options.namespace,
            stop=lambda: graph.failed.is_set() or not recorder.running,
            feedback=show,
        )
    _check(graph)
    if result.outcome in ('failed', 'canceled') and recorder.running:
        raise DemoError(f'the episode {result.outcome} after {result.elapsed_s:.1f} s: {result.message}')
    return result


def _check(graph: Bringup) -> None:
    """Raise what ended the graph, if anything."""
    if graph.failed.is_set():
        raise graph.failure


@contextmanager
def _viewer(robot: str, options: DemoOptions, output: Output) -> Iterator[None]:
    """Show the graph live, if that is wanted and possible; a viewer that ends is no reason to stop."""
    if not options.view:
        yield
        return
    from lingbot_va_ros.viewer import obstacle

    if reason := obstacle():
        output.console.print(f'No live view: {reason}.', style='yellow', markup=False)
        yield
        return
    arguments = ['--robot', robot, '--namespace', options.namespace]
    with SideProcess('viewer', 'lingbot_va_ros.viewer', arguments, output.log):
        yield


# What comes of it


def _report(result: TaskResult, options: DemoOptions, work: Path, output: Output) -> dict[str, Any]:
    """Write summary, film and contact sheet into `work`."""
    with output.console.status('Making the film from the bag'), EpisodeBag(work / 'bag') as bag:
        summary = summarize(bag) | {'outcome': result.outcome}
        _require_complete(summary, result)
        write_video(bag, work / 'episode.mp4')
    write_contact_sheet(work / 'episode.mp4', work / 'preview.png')
    write_json(work / 'summary.json', summary)
    return summary


def _require_complete(summary: dict[str, Any], result: TaskResult) -> None:
    silent = [camera for camera, rate in summary['camera_hz'].items() if rate is None]
    if silent:
        raise DemoError(f'the bag holds no images of {", ".join(silent)}')
    if summary['command_rate_hz'] is None:
        raise DemoError('the bag holds no commands')
    if summary['chunks'] != result.chunks or not result.chunks:
        raise DemoError(f'the bag holds {summary["chunks"]} chunks, the world model made {result.chunks}')


def _write_log(folder: Path, output: Output) -> None:
    (folder / 'nodes.log').write_text(''.join(f'{line}\n' for line in output.lines))


def _replace(out: Path, work: Path) -> None:
    """Put the finished folder in the place of an earlier one."""
    old = work.with_name(f'{work.name}.old')
    if out.exists():
        out.rename(old)
    work.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _keep(out: Path, work: Path, output: Output) -> None:
    """Leave what there is of a failed run, so that it can be explained."""
    failed = out.with_name(f'{out.name}.failed')
    _write_log(work, output)
    shutil.rmtree(failed, ignore_errors=True)
    work.rename(failed)
    output.console.print(f'What was recorded is in {failed}.', highlight=False, markup=False, soft_wrap=True)


def _interruptible(graph: Bringup) -> AbstractContextManager[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into KeyboardInterrupt; the next ones hurry the graph's end."""
    interrupted = False

    def handle() -> None:
        nonlocal interrupted
        if interrupted:
            graph.request_stop(hurry=True)
        else:
            interrupted = True
            raise KeyboardInterrupt

    return when_asked_to_end(handle)
