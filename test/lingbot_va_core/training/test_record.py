"""What is noted of a run: sums over a log, and commands without the folders of one machine."""

from pathlib import Path

from lingbot_va_core.training.record import outcome, portable_command

LOG = """step,loss,seconds_per_step,held_out_video,held_out_action
10,1.0,2.0,,
20,0.9,1.0,,
20,,,0.5,0.6
25,0.8,4.0,,
25,,,0.4,
"""


def test_time_and_losses_are_read_from_the_log_of_a_run(tmp_path: Path) -> None:
    (tmp_path / 'log.csv').write_text(LOG)
    assert outcome(tmp_path) == {'steps': 25, 'seconds': 50, 'held_out': {'video': 0.4}}


def test_a_command_begins_its_paths_where_they_differ() -> None:
    arguments = ['train', 'policy', '--dataset', '/home/a/data/cubes:2', '--out', '/home/a/runs/p q', '--steps', '5']
    command = portable_command(arguments)
    assert command == "lingbot-va train policy --dataset data/cubes:2 --out 'runs/p q' --steps 5"
    assert portable_command(['train', 'vae', '--out', 'run']) == 'lingbot-va train vae --out run'
    assert portable_command(['train', 'vae', '--out', '/home/a/run']) == 'lingbot-va train vae --out run'
