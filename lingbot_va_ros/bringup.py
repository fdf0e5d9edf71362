"""Brings a graph up from the node table, watches it, and takes it down again."""

import atexit
import contextlib
import math
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lifecycle_msgs.msg import State

from lingbot_va_ros.lifecycle_client import LifecycleClient
from lingbot_va_ros.node_process import NodeProcess
from lingbot_va_ros.node_start import NodeStart, Remap
from lingbot_va_ros.node_table import NodeSpec
from lingbot_va_ros.respawns import Respawns
from lingbot_va_ros.ros_environment import apply_ros_defaults, child_environment
from lingbot_va_ros.shared_memory import remove_stale_segments

WATCH_S = 0.1
LOG_DELAY_S = 0.5  # a node's log line may arrive after its reply


@dataclass(frozen=True)
class Deadlines:
    """How long nodes may take, in seconds."""

    start: float = 60.0
    configure: float = 300.0  # loads weights and warms up
    activate: float = 30.0
    stop: float = 3.0  # for each of deactivate and cleanup; then signals follow


class BringupError(RuntimeError):
    """A graph that did not become or stay active.

    Attributes:
        node: name of the node at fault.
        returncode: how its process ended (negative: signal), or None when it is the node that refused.
    """

    def __init__(self, node: str, message: str, returncode: int | None = None) -> None:
        super().__init__(f'{node} {message}')
        self.node = node
        self.returncode = returncode


class _StopRequested(Exception):  # noqa: N818
    """Ends whatever the supervising thread is waiting for."""


class _Fallen(Exception):  # noqa: N818
    """A node has ended that may be started again."""

    def __init__(self, spec: NodeSpec) -> None:
        super().__init__(spec.name)
        self.spec = spec


class Bringup:
    """A running graph: `with Bringup(nodes(simulation=True), {'robot': 'aloha'}) as graph: ...`.

    A thread of this object starts the processes, brings the nodes to active in the table's order and watches them. When
    a required node dies, or when the caller leaves the `with` block, the same thread takes everything down in reverse
    order; if this process dies, the kernel ends the nodes. A node with `respawns` is started again a few times first,
    while the others go on. The ROS domain is that of ROS_DOMAIN_ID.

    Args:
        nodes: what to start, in order.
        parameters: for all nodes, above all files; a node ignores those that it does not declare.
        node_parameters: the same for single nodes, by name.
        params_file: ROS parameter file above `config/lingbot_va.yaml`.
        namespace: of all nodes.
        remaps: from which name to which, for all nodes.
        environment: variables for single nodes, by name.
        log: receives every line of the nodes and of this object, from several threads.
        log_level: of the nodes.
        deadlines: see `Deadlines`.

    Attributes:
        active: set while all nodes are active, or one of them is being started again.
        starts: how the nodes are started.
        failed: set as soon as something went wrong; then `failure` says what. Nodes may still be ending.
        ended: set when no process is left.
        failure: why the graph did not become or stay active, None so far.
        seconds_to_active: from start to active, None so far.
    """

    def __init__(
        self,
        nodes: Sequence[NodeSpec],
        parameters: Mapping[str, Any] | None = None,
        *,
        node_parameters: Mapping[str, Mapping[str, Any]] | None = None,
        params_file: str | Path | None = None,
        namespace: str = '',
        remaps: Sequence[Remap] = (),
        environment: Mapping[str, Mapping[str, str]] | None = None,
        log: Callable[[str], None] | None = None,
        log_level: str = 'info',
        deadlines: Deadlines = Deadlines(),
    ) -> None:
        self._nodes = tuple(nodes)
        self._namespace = '/' + namespace.strip('/')
        self.starts = tuple(
            NodeStart(
                spec,
                namespace.strip('/'),
                Path(params_file) if params_file else None,
                {**(parameters or {}), **(node_parameters or {}).get(spec.name, {})},
                tuple(remaps),
                log_level,
            )
            for spec in self._nodes
        )
        self._environment = dict(environment or {})
        self._log = log or _print
        self._deadlines = deadlines
        self._processes: dict[str, NodeProcess] = {}
        self._missed: set[str] = set()  # optional nodes whose end has been reported
        self._respawns = {spec.name: Respawns(spec.respawns) for spec in self._nodes}
        self._reviving: str | None = None
        self._silent: set[str] = set()  # nodes that do not answer while everything is taken down
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name='bringup', daemon=True)
        self.active = threading.Event()
        self.failed = threading.Event()
        self.ended = threading.Event()
        self.failure: BringupError | None = None
        self.seconds_to_active: float | None = None

    # For the caller

    def __enter__(self) -> 'Bringup':
        try:
            self.start()
            return self.wait_until_active()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """Process id of each node that was started."""
        return {name: process.pid for name, process in self._processes.items()}

    @property
    def respawns(self) -> dict[str, int]:
        """How often each node was started again, by name; without those that never were."""
        return {name: respawns.count for name, respawns in self._respawns.items() if respawns.count}

    @property
    def stopping(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stop.is_set()

    def start(self) -> 'Bringup':
        """Begin to bring the graph up; returns at once."""
        apply_ros_defaults()
        atexit.register(self.stop)
        self._began = time.monotonic()
        self._thread.start()
        return self

    def wait_until_active(self) -> 'Bringup':
        """Wait until all nodes are active.

        Raises:
            BringupError: it failed, or was stopped first; nothing is left running then.
        """
        while not self.active.wait(WATCH_S):
            if self.ended.is_set():
                raise self.failure or BringupError('bringup', 'was stopped before all nodes were active')
        return self

    def wait_until_ended(self, timeout: float = math.inf) -> bool:
        """Wait until no process is left, or for `timeout` seconds; return whether none is left.

        It wakes up often, because a signal that the kernel gives to another thread does not interrupt the wait of the
        main thread, which alone runs the handlers.
        """
        deadline = time.monotonic() + timeout
        while not self.ended.wait(max(0.0, min(WATCH_S, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
        return True

    def request_stop(self, hurry: bool = False) -> None:
        """Begin to take everything down and return at once; with `hurry`, kill. Safe in a signal handler."""
        if hurry:
            self._hurry.set()
        self._stop.set()

    def stop(self) -> None:
        """Take everything down and wait until no process is left. May be called at any time, and again."""
        self.request_stop()
        if self._thread.ident is not None:
            self.wait_until_ended()
            atexit.unregister(self.stop)

    # The supervising thread

    def _supervise(self) -> None:
        client, folder = None, None
        try:
            folder = Path(tempfile.mkdtemp(prefix='lingbot_va_'))
            client = LifecycleClient([spec.name for spec in self._nodes], self._namespace, self._check)
            self._start_processes(folder)
            self._bring_to_active(client)
            self._watch(client, folder)
        except _StopRequested:
            pass
        except BringupError as error:
            self._fail(error)
        except Exception as error:  # the nodes must end whatever happened here
            self._fail(BringupError('bringup', f'failed: {error}'))
        finally:
            self._take_down(client)
            if folder:
                shutil.rmtree(folder, ignore_errors=True)
            self.ended.set()

    def _fail(self, error: BringupError) -> None:
        self.failure = error
        self._say(f'{str(error).rstrip(".")}. Ending all nodes.')
        self.failed.set()

    def _start_processes(self, folder: Path) -> None:
        remove_stale_segments()
        self._say(f'Starting {", ".join(spec.name for spec in self._nodes)}.')
        for start in self.starts:
            self._start_process(start, folder)

    def _start_process(self, start: NodeStart, folder: Path) -> None:
        spec, overrides = start.spec, None
        if start.parameters:
            overrides = folder / f'{spec.name}.yaml'
            overrides.write_text(yaml.safe_dump({start.full_name: {'ros__parameters': dict(start.parameters)}}))
        environment = child_environment(sys.path, spec.dds_profile) | dict(self._environment.get(spec.name, {}))
        self._processes[spec.name] = NodeProcess(
            spec, start.arguments(overrides), environment, self._forwarder(spec.name)
        )

    def _bring_to_active(self, client: LifecycleClient) -> None:
        for spec in self._nodes:
            if not client.wait_until_up(spec.name, self._deadlines.start):
                raise BringupError(spec.name, f'did not appear within {self._deadlines.start:g} s')
        # All load at the same time; none does anything yet.
        began = time.monotonic()
        marks = {spec.name: self._processes[spec.name].lines_seen for spec in self._nodes}
        futures = {spec.name: client.begin(spec.name, 'configure') for spec in self._nodes}
        for spec in self._nodes:
            made = client.finish(spec.name, 'configure', futures[spec.name], self._deadlines.configure)
            self._require(made, spec.name, 'configure', self._deadlines.configure, marks[spec.name])
            self._say(f'{spec.name} is configured, after {time.monotonic() - began:.1f} s.')
        for spec in self._nodes:
            self._change(client, spec.name, 'activate', self._deadlines.activate)
            self._say(f'{spec.name} is active.')
        self.seconds_to_active = time.monotonic() - self._began
        self._say(f'All nodes are active, {self.seconds_to_active:.1f} s after the start.')
        self.active.set()

    def _change(self, client: LifecycleClient, name: str, transition: str, limit: float) -> None:
        mark = self._processes[name].lines_seen
        made = client.finish(name, transition, client.begin(name, transition), limit)
        self._require(made, name, transition, limit, mark)

    def _require(self, made: bool | None, name: str, transition: str, limit: float, mark: int) -> None:
        if made is None:
            raise BringupError(name, f'did not {transition} within {limit:g} s')
        if not made:
            process, deadline = self._processes[name], time.monotonic() + LOG_DELAY_S
            while not (reason := process.last_words(mark, errors_only=True)) and time.monotonic() < deadline:
                time.sleep(0.01)
            raise BringupError(name, f'refused to {transition}: {reason or "it logged no reason"}')

    def _watch(self, client: LifecycleClient, folder: Path) -> None:
        fallen: NodeSpec | None = None
        while not self._stop.wait(WATCH_S):
            try:
                if fallen:
                    self._respawn(client, fallen, folder)
                    fallen = None
                self._check()
            except _Fallen as death:
                fallen = death.spec

    def _respawn(self, client: LifecycleClient, spec: NodeSpec, folder: Path) -> None:
        """Start a node again and bring it to active; it may fall again meanwhile."""
        name, fell = spec.name, time.monotonic()
        self._respawns[name].note()
        self._say(f'{name} {self._processes[name].describe_exit()}. It is started again, the others go on.')
        self._start_process(self.starts[self._nodes.index(spec)], folder)
        self._reviving = name
        try:
            if not client.wait_for_successor(name, self._deadlines.start):
                raise BringupError(name, f'did not appear again within {self._deadlines.start:g} s')
            self._change(client, name, 'configure', self._deadlines.configure)
            self._change(client, name, 'activate', self._deadlines.activate)
        finally:
            self._reviving = None
        self._say(f'{name} is active again, after {time.monotonic() - fell:.1f} s.')

    def _may_respawn(self, spec: NodeSpec) -> bool:
        return self.active.is_set() and self._respawns[spec.name].allowed()

    def _check(self) -> None:
        """Raise when there is a reason not to go on."""
        if self._stop.is_set():
            raise _StopRequested
        for name, process in self._processes.items():
            if process.returncode is None or name in self._missed:
                continue
            if self._may_respawn(process.spec):
                if self._reviving in (None, name):  # one after another
                    raise _Fallen(process.spec)
                continue
            if process.spec.required:
                count = self._respawns[name].count
                again = f', after {count} new start{"s"[: count > 1]}' if count else ''
                raise BringupError(name, process.describe_exit() + again, process.returncode)
            self._missed.add(name)
            self._say(f'{name} {process.describe_exit()}. The graph goes on without it.')

    def _take_down(self, client: LifecycleClient | None) -> None:
        self.active.clear()
        names = [spec.name for spec in reversed(self._nodes) if spec.name in self._processes]
        if names and not self.failure:
            self._say('Stopping.')
        loading = set(names)
        if client:
            loading = {name for name in names if not client.is_up(name)}
            client.check = self._check_hurry
            try:
                self._step_down(client, names, State.PRIMARY_STATE_ACTIVE, 'deactivate')
                self._step_down(client, names, State.PRIMARY_STATE_INACTIVE, 'cleanup')
            except _StopRequested:
                pass
            except Exception as error:
                self._say(f'The nodes could not be deactivated: {error}.')
            client.close()
        for name in names:
            last_signal = self._processes[name].end(self._hurry, loading=name in loading)
            if last_signal not in ('', 'SIGTERM' if name in loading else 'SIGINT'):
                self._say(f'{name} needed {last_signal}.')
        if names:
            self._say('All nodes have ended.')

    def _step_down(self, client: LifecycleClient, names: list[str], state: int, transition: str) -> None:
        limit = self._deadlines.stop
        for name in names:
            if name in self._silent or self._processes[name].returncode is not None or not client.is_up(name):
                continue
            present = client.state(name, limit)
            made = client.finish(name, transition, client.begin(name, transition), limit) if present == state else True
            if present is None or made is None:
                self._silent.add(name)
                self._say(f'{name} did not answer within {limit:g} s.')
            elif not made:
                self._say(f'{name} refused to {transition}.')

    def _check_hurry(self) -> None:
        if self._hurry.is_set():
            raise _StopRequested

    # Output

    def _forwarder(self, name: str) -> Callable[[str], None]:
        return lambda line: self._emit(f'[{name}] {line}')

    def _say(self, sentence: str) -> None:
        self._emit(f'[bringup {time.monotonic() - self._began:6.2f} s] {sentence}')

    def _emit(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more; the nodes must not block on that
            self._log(line)


def _print(line: str) -> None:
    sys.stdout.write(f'{line}\n')
    sys.stdout.flush()
