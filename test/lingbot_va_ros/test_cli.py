"""The command line as a whole: help without heavy imports, errors in one line."""

import subprocess
import sys

import pytest

from lingbot_va_ros import cli

HEAVY = ('torch', 'rclpy', 'mujoco', 'yaml')


@pytest.mark.parametrize('name', sorted(cli.COMMANDS))
def test_help_of_a_command_has_an_example_and_imports_nothing_heavy(name: str) -> None:
    code = (
        'import sys\nfrom lingbot_va_ros.cli import main\n'
        f'try: main(["{name}", "--help"])\n'
        f'finally: print("heavy:", *[m for m in {HEAVY} if m in sys.modules])'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert 'example: lingbot-va' in result.stdout
    assert '--json' in result.stdout
    assert result.stdout.splitlines()[-1] == 'heavy:'


@pytest.mark.parametrize('name', sorted(cli.COMMANDS))
def test_every_command_can_be_run(name: str) -> None:
    module = cli.command_module(name)
    assert callable(module.add_arguments)
    assert callable(module.run)


@pytest.mark.parametrize('arguments', [[], ['juggle'], ['info', '--nonsense']])
def test_bad_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as info:
        cli.main(arguments)
    assert info.value.code == 2
    assert 'usage: lingbot-va' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('error', 'status', 'line'),
    [
        (ValueError('seed is -1;\n  it must be above 0'), 2, 'seed is -1; it must be above 0'),
        (RuntimeError('the graph ended'), 1, 'the graph ended'),
        (FileNotFoundError(2, 'No such file', 'bag'), 1, "[Errno 2] No such file: 'bag'"),
        (ModuleNotFoundError("No module named 'rclpy'", name='rclpy'), 1, 'rclpy is not installed; run `make setup`'),
        (KeyboardInterrupt(), 130, 'interrupted'),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else '',
)
def test_errors_become_one_line_and_an_exit_code(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr(cli.command_module('up'), 'run', fail)
    assert cli.main(['up']) == status
    printed = capsys.readouterr().err
    assert printed.startswith(f'lingbot-va up: error: {line}')
    assert printed.count('\n') == 1
