"""The `lingbot-va` command: one module in `lingbot_va_ros/commands` for each subcommand, imported when it is used."""

import argparse
import importlib
import os
import sys
from types import ModuleType

from lingbot_va_core import __version__

COMMANDS = {
    'demo': 'run a task in simulation and show what happened',
    'up': 'bring a graph up and watch it',
    'collect': 'let a scripted expert make demonstrations in simulation',
    'train': 'train a model on recorded episodes',
    'eval': 'measure how often a checkpoint solves a task',
    'results': 'measure a suite of evaluations and write their page',
    'record': 'record a running graph into a bag',
    'lead': 'let a scripted expert lead the simulated robot while that is recorded',
    'serve': 'serve a model to clients of the released policy server',
    'replay': 'feed a recorded run to the model again, or to another one, or show it',
    'convert': 'turn recorded bags into a data set, or check them',
    'bench': 'measure speed and memory',
    'checkpoint': 'convert a checkpoint to another layout, type or variant',
    'info': 'describe a model',
    'verify': 'compare with a recorded rollout of the released code',
}


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; return 0 on success, 2 for bad usage or input, else 1 (128 + signal when interrupted).

    A module of `commands` has `add_arguments(parser)` and `run(args) -> int`; `args.argv` is what was typed. What it
    raises is shown in one line: ValueError means bad input, OSError and RuntimeError that it failed.
    """
    argv = sys.argv[1:] if argv is None else argv
    chosen = argv[0] if argv and argv[0] in COMMANDS else None
    try:
        module = command_module(chosen) if chosen else None
        arguments = _parser(chosen, module).parse_args(argv, argparse.Namespace(argv=argv))
        status = module.run(arguments)
        sys.stdout.flush()
        return status
    except ValueError as error:
        return _complain(chosen, error, 2)
    except ModuleNotFoundError as error:
        return _complain(chosen, f'{error.name} is not installed; run `make setup` or source a ROS 2 workspace', 1)
    except ImportError as error:
        return _complain(chosen, f'an installed package cannot be imported: {error}', 1)
    except BrokenPipeError:  # the reader of our output has gone, as in `lingbot-va info | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, RuntimeError) as error:
        return _complain(chosen, error, 1)
    except KeyboardInterrupt:
        return _complain(chosen, 'interrupted', 130)


def command_module(name: str) -> ModuleType:
    """Import the module of a subcommand."""
    return importlib.import_module(f'lingbot_va_ros.commands.{name}')


def _parser(chosen: str | None, module: ModuleType | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='lingbot-va',
        description='LingBot-VA on ROS 2: a video-action world model that drives two arms.',
        epilog='example: lingbot-va up --robot aloha --task transfer_cube',
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == chosen:
            module.add_arguments(command)
    return parser


def _complain(command: str | None, problem: object, status: int) -> int:
    """Print one line."""
    prog = f'lingbot-va {command}' if command else 'lingbot-va'
    print(f'{prog}: error: {" ".join(str(problem).split()) or type(problem).__name__}', file=sys.stderr)
    return status


if __name__ == '__main__':
    sys.exit(main())
