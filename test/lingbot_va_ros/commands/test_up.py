"""`lingbot-va up` as a user meets it: exit codes, signals, and that nothing is left running."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support import Program, living, wait_until

pytestmark = pytest.mark.patient  # the probes do nothing
ROOT = Path(__file__).resolve().parents[3]
CLI = ROOT / 'test' / 'cli_with_probes.py'
Up = Callable[..., Program]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The file to which the probes write."""
    path = tmp_path / 'journal'
    path.touch()
    return path


@pytest.fixture
def up(tmp_path: Path, journal: Path) -> Up:
    """Start `lingbot-va up` with probes that behave as told, by name."""

    def start(*arguments: str, **behaviour: str) -> Program:
        parameters = {'/**': {'ros__parameters': {'journal': str(journal)}}}
        parameters.update({name: {'ros__parameters': {'behaviour': how}} for name, how in behaviour.items()})
        file = tmp_path / 'params.yaml'
        file.write_text(yaml.safe_dump(parameters, sort_keys=False))
        return Program(str(CLI), 'up', '--params-file', str(file), *arguments)

    return start


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_graph_in_reverse_with_exit_code_0(up: Up, journal: Path, number: signal.Signals) -> None:
    with up() as program:
        program.wait_for_line('All nodes are active')
        sessions = living('parent', program.pid)
        assert len(sessions) == 2
        program.send(number)
        assert program.wait() == 0, program.output
    assert [session for session in sessions if living('session', session)] == []
    events = journal.read_text().split('\n')
    assert [line for line in events if line.endswith('deactivate')] == ['second deactivate', 'first deactivate']
    assert 'Traceback' not in program.output


def test_ctrl_c_while_nodes_import_ends_them_without_a_traceback(up: Up) -> None:
    with up() as program:
        program.wait_for_line('Starting')
        program.send(signal.SIGINT)
        assert program.wait() == 1
    assert 'All nodes have ended' in program.output
    assert 'Traceback' not in program.output
    assert 'needed' not in program.output


def test_ctrl_c_while_nodes_load_ends_everything(up: Up, journal: Path) -> None:
    with up(first='slow') as program:
        wait_until(lambda: 'second configure' in journal.read_text(), 30)
        sessions = living('parent', program.pid)
        program.send(signal.SIGINT)
        assert program.wait() == 1
    assert [session for session in sessions if living('session', session)] == []
    assert program.lines[-1] == 'lingbot-va up: error: bringup was stopped before all nodes were active'


def test_a_second_ctrl_c_kills_what_does_not_listen(up: Up) -> None:
    with up(first='stubborn') as program:
        program.wait_for_line('All nodes are active')
        sessions = living('parent', program.pid)
        program.send(signal.SIGINT)
        program.wait_for_line('Stopping')
        program.send(signal.SIGINT)
        program.wait(timeout=4.0)  # SIGINT alone is given 5 s
    assert [session for session in sessions if living('session', session)] == []


def test_nodes_do_not_outlive_a_supervisor_that_is_killed(up: Up) -> None:
    with up(second='stubborn') as program:
        program.wait_for_line('All nodes are active')
        sessions = living('parent', program.pid)
        assert len(sessions) == 2
        program.send(signal.SIGKILL)
        program.wait()
        wait_until(lambda: not any(living('session', session) for session in sessions), 5.0, 'the end of all nodes')


def test_a_node_that_dies_ends_the_graph_with_exit_code_1(up: Up, tmp_path: Path, journal: Path) -> None:
    summary = tmp_path / 'summary.json'
    with up('--json', str(summary), second='exit') as program:
        assert program.wait() == 1
    assert program.lines[-1] == 'lingbot-va up: error: second exited with code 1: the camera is gone'
    assert json.loads(summary.read_text())['failure'] == 'second exited with code 1: the camera is gone'
    assert 'first end' in journal.read_text()


def test_a_refusal_shows_the_node_and_its_reason(up: Up, journal: Path) -> None:
    with up(second='refuse') as program:
        assert program.wait() == 1
    reason = "cannot configure: task is 'juggle'; choose one of transfer_cube"
    assert program.lines[-1] == f'lingbot-va up: error: second refused to configure: {reason}'
    assert 'Traceback' not in program.output
    assert 'activate' not in journal.read_text()


def test_a_real_node_that_refuses_its_parameters_makes_exit_code_2() -> None:
    with Program('-m', 'lingbot_va_ros.cli', 'up', '--task', 'juggle') as program:
        assert program.wait(120) == 2
    assert program.lines[-1].startswith('lingbot-va up: error: sim_bridge exited with code 2: refused: task is')
    assert 'Traceback' not in program.output


def test_a_duration_ends_the_graph_with_exit_code_0_and_a_summary(up: Up, tmp_path: Path) -> None:
    summary = tmp_path / 'summary.json'
    with up('--duration', '0.2', '--json', str(summary)) as program:
        assert program.wait() == 0, program.output
    content = json.loads(summary.read_text())
    assert content['nodes'] == ['first', 'second']
    assert content['seconds_to_active'] > 0
    assert content['failure'] is None


def test_nodes_go_on_when_nobody_reads_the_output(up: Up, journal: Path) -> None:
    with up('--duration', '0.5') as program:
        program.wait_for_line('Starting')
        program.stop_reading()  # what `| head` does
        program.wait()
    assert 'first deactivate' in journal.read_text()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--robot', 'nope'], "robot 'nope' is unknown; choose one of aloha"),
        (['--robot', 'missing/file.yaml'], 'no profile file at missing/file.yaml'),
        (['--preset', 'nope'], "preset 'nope' is unknown"),
        (['--checkpoint', '/no/such/folder'], '--checkpoint is /no/such/folder; there is no such file or folder'),
        (['--no-sim', '--task', 'transfer_cube'], '--task is for the simulation'),
        (['--seed', '-1'], '--seed is -1; it must be from 0'),
        (['--real-time-factor', 'nan'], '--real-time-factor is nan'),
        (['--real-time-factor', '101'], '--real-time-factor is 101; it must be from 0 (at full speed) to 100'),
        (['--duration', '-3'], '--duration is -3; it must be above 0'),
        (['--instruction', ''], '--instruction has 0 bytes'),
        (['--instruction', 'x' * 513], '--instruction has 513 bytes; it must have from 1 to 512'),
        (['--namespace', '1a'], "--namespace is '1a'"),
        (['--params-file', '/no/such.yaml'], '--params-file /no/such.yaml cannot be read'),
        (['--params-file', str(ROOT / 'config' / 'robots' / 'aloha.yaml')], 'has no ros__parameters'),
        (['--mode', 'nope'], "invalid choice: 'nope'"),
    ],
    ids=lambda value: ' '.join(value)[:40] if isinstance(value, list) else '',
)
def test_bad_input_exits_2_with_one_line_and_starts_nothing(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lingbot_va_ros.bringup import Bringup
    from lingbot_va_ros.cli import main

    monkeypatch.setattr(Bringup, 'start', lambda self: pytest.fail('a graph was started'))
    try:
        status = main(['up', *arguments])
    except SystemExit as error:  # argparse
        status = error.code
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert status == 2
    assert complaint.startswith('lingbot-va up: error: ')
    assert message in complaint


def test_a_domain_that_is_no_number_is_refused(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from lingbot_va_ros.cli import main

    monkeypatch.setenv('ROS_DOMAIN_ID', 'lab')
    assert main(['up']) == 2
    assert "ROS_DOMAIN_ID is 'lab'; it must be a number from 0 to 232" in capsys.readouterr().err
