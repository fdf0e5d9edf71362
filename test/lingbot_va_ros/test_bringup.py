"""The pip bring-up: order, refusals, deaths, and that nothing is left running."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support import living, wait_until

from lingbot_va_ros.bringup import Bringup, BringupError, Deadlines
from lingbot_va_ros.node_table import NodeSpec

pytestmark = pytest.mark.patient  # the probes do nothing
NAMES = ('first', 'second', 'third')


def probes(**fields: Any) -> tuple[NodeSpec, ...]:
    """Three probe nodes."""
    return tuple(NodeSpec(name, '', 'lifecycle_probe', order, **fields) for order, name in enumerate(NAMES))


class Case:
    """A bring-up of probes, its journal and its output."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / 'journal'
        self.journal.touch()
        self.lines: list[str] = []

    def bringup(
        self, behaviour: dict[str, str] | None = None, nodes: tuple[NodeSpec, ...] = (), **options: Any
    ) -> Bringup:
        """Prepare a graph of probes that behave as told, by name."""
        options.setdefault('node_parameters', {name: {'behaviour': how} for name, how in (behaviour or {}).items()})
        return Bringup(nodes or probes(), {'journal': str(self.journal)}, log=self.lines.append, **options)

    def events(self, *kinds: str) -> list[str]:
        """Lines of the journal that are of these kinds, in order."""
        return [line for line in self.journal.read_text().splitlines() if line.split()[1] in kinds]

    def output(self) -> str:
        """Everything that was logged."""
        return '\n'.join(self.lines)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """An empty case."""
    return Case(tmp_path)


def assert_nothing_runs(graph: Bringup) -> None:
    """Check that no process of any node's session is alive."""
    assert graph.pids, 'nothing was ever started'
    assert {name: living('session', pid) for name, pid in graph.pids.items()} == {name: [] for name in graph.pids}


def test_nodes_become_active_in_order_and_end_in_reverse(case: Case) -> None:
    with case.bringup() as graph:
        assert graph.active.is_set()
        assert sorted(case.events('configure')) == [f'{name} configure' for name in NAMES]
        assert case.events('activate') == [f'{name} activate' for name in NAMES]
        assert graph.seconds_to_active > 0
    assert not graph.active.is_set()
    assert graph.failure is None
    assert case.events('deactivate', 'cleanup', 'end') == [
        f'{name} {event}' for event in ('deactivate', 'cleanup', 'end') for name in reversed(NAMES)
    ]
    assert_nothing_runs(graph)
    assert 'Traceback' not in case.output()
    assert any('All nodes are active' in line for line in case.lines)


def test_parameters_of_the_caller_win_and_may_hold_any_text(case: Case, tmp_path: Path) -> None:
    file = tmp_path / 'own.yaml'
    file.write_text('/**:\n  ros__parameters:\n    text: file\nsecond:\n  ros__parameters:\n    text: file, second\n')
    awkward = 'put: the "cube" #1 ünder \\ it'
    with case.bringup(params_file=file, node_parameters={'third': {'text': awkward}}):
        pass
    texts = {line.split()[0]: line.split('text=')[1] for line in case.events('start')}
    assert texts == {'first': 'file', 'second': 'file, second', 'third': awkward}


def test_a_namespace_holds_the_whole_graph_but_for_what_is_remapped(case: Case, graph: Any) -> None:
    own = {'node_parameters': {'first': {'text': 'mine'}}, 'remaps': [('~/transition_event', '/told')]}
    with case.bringup(namespace='robot1', nodes=probes()[:1], **own):
        assert ('first', '/robot1') in graph.wait_for(
            lambda: [pair for pair in graph.node.get_node_names_and_namespaces() if pair[0] == 'first']
        )
        topics = {name for name, _ in graph.node.get_publisher_names_and_types_by_node('first', '/robot1')}
        assert '/told' in topics
        assert '/robot1/first/transition_event' not in topics
    assert case.events('start') == ['first start text=mine']


def test_niceness_comes_from_the_table(case: Case) -> None:
    with case.bringup(nodes=probes(nice=3)[:1]):
        pass
    assert case.journal.read_text().splitlines()[1] == f'first nice={os.nice(0) + 3}'


def test_a_refused_configure_names_the_node_and_its_reason(case: Case) -> None:
    graph = case.bringup({'second': 'refuse'})
    reason = "second refused to configure: cannot configure: task is 'juggle'"
    with pytest.raises(BringupError, match=reason) as info, graph:
        pass
    assert info.value.node == 'second'
    assert graph.failed.is_set()
    assert case.events('activate') == []
    assert_nothing_runs(graph)


def test_a_node_that_does_not_configure_in_time_is_named(case: Case) -> None:
    graph = case.bringup({'third': 'slow'}, deadlines=Deadlines(configure=1.0, stop=0.5))
    with pytest.raises(BringupError, match='third did not configure within 1 s'), graph:
        pass
    assert_nothing_runs(graph)


def test_a_killed_node_is_reported_and_the_others_end_in_reverse(case: Case) -> None:
    with case.bringup() as graph:
        os.kill(graph.pids['second'], signal.SIGKILL)
        assert graph.failed.wait(10)
        assert graph.ended.wait(30)
        assert str(graph.failure) == 'second was ended by signal SIGKILL'
        assert (graph.failure.node, graph.failure.returncode) == ('second', -signal.SIGKILL)
        assert not graph.active.is_set()
    assert case.events('deactivate') == ['third deactivate', 'first deactivate']
    assert_nothing_runs(graph)


def test_a_node_that_exits_is_reported_with_its_last_words(case: Case) -> None:
    with case.bringup({'first': 'exit'}) as graph:
        assert graph.ended.wait(30)
        assert str(graph.failure) == 'first exited with code 1: the camera is gone'
    assert_nothing_runs(graph)


def test_a_node_that_ends_before_it_is_up_is_reported_at_once(case: Case) -> None:
    missing = (NodeSpec('ghost', '', 'lingbot_va_ros.no_such_node', 0),)
    began = time.monotonic()
    with pytest.raises(BringupError, match=r'ghost exited with code 1.*no_such_node'), case.bringup(nodes=missing):
        pass
    assert time.monotonic() - began < Deadlines().start / 2


def test_the_graph_goes_on_without_an_optional_node(case: Case) -> None:
    nodes = (*probes()[:1], NodeSpec('second', '', 'lifecycle_probe', 1, required=False))
    with case.bringup(nodes=nodes) as graph:
        os.kill(graph.pids['second'], signal.SIGTERM)
        wait_until(lambda: 'goes on without it' in case.output())
        assert graph.active.is_set()
    assert graph.failure is None


def test_a_node_with_respawns_is_started_again_a_few_times_while_the_others_go_on(case: Case) -> None:
    first, _, third = probes()
    nodes = (first, NodeSpec('second', '', 'lifecycle_probe', 1, respawns=1), third)
    with case.bringup(nodes=nodes) as graph:
        killed = graph.pids['second']
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: 'second is active again' in case.output(), 60)
        assert graph.active.is_set()
        assert graph.respawns == {'second': 1}
        assert graph.pids['second'] != killed
        assert case.events('activate') == [f'{name} activate' for name in (*NAMES, 'second')]
        assert case.events('deactivate', 'end') == []
        os.kill(graph.pids['second'], signal.SIGKILL)
        assert graph.ended.wait(60)
        assert str(graph.failure) == 'second was ended by signal SIGKILL, after 1 new start'
    assert case.events('deactivate') == ['third deactivate', 'first deactivate']
    assert_nothing_runs(graph)


def test_before_the_graph_is_active_nothing_is_started_again(case: Case) -> None:
    nodes = (NodeSpec('ghost', '', 'lingbot_va_ros.no_such_node', 0, respawns=3),)
    graph = case.bringup(nodes=nodes)
    with pytest.raises(BringupError, match='ghost exited with code 1'), graph:
        pass
    assert graph.respawns == {}


def test_a_node_that_ignores_signals_is_killed(case: Case) -> None:
    with case.bringup({'first': 'stubborn'}, nodes=probes()[:1]) as graph:
        graph.request_stop()
        assert not graph.ended.wait(1.0), 'SIGINT should not have ended it'
        graph.request_stop(hurry=True)
        assert graph.ended.wait(5.0)
    assert any('first needed SIGKILL' in line for line in case.lines)
    assert_nothing_runs(graph)


def test_what_a_node_has_started_ends_with_it(case: Case) -> None:
    with case.bringup({'first': 'descendant'}, nodes=probes()[:1]) as graph:
        assert len(living('session', graph.pids['first'])) == 2
        os.kill(graph.pids['first'], signal.SIGKILL)
        assert graph.ended.wait(20)
    assert_nothing_runs(graph)


def test_a_stop_during_configure_ends_everything(case: Case) -> None:
    graph = case.bringup({'second': 'slow'}, deadlines=Deadlines(stop=0.5)).start()
    wait_until(lambda: len(case.events('configure')) == 2, 30)
    graph.stop()
    assert_nothing_runs(graph)
    with pytest.raises(BringupError, match='was stopped before'):
        graph.wait_until_active()


def test_an_exception_in_the_block_ends_everything(case: Case) -> None:
    with pytest.raises(ZeroDivisionError), case.bringup() as graph:
        raise ZeroDivisionError
    assert_nothing_runs(graph)


def test_nodes_listen_to_sigint_although_a_background_shell_made_the_supervisor_ignore_it(case: Case) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with case.bringup(nodes=probes()[:1]) as graph:
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert case.events('end') == ['first end']
    assert 'needed' not in case.output()
    assert_nothing_runs(graph)
