"""Each watchdog reacts above its threshold, as its row of the table says, and says what is wrong."""

import re
from pathlib import Path

import pytest

from lingbot_va_ros.watchdogs import PARAMETERS, WATCHDOGS, Reaction, ThresholdError, Verdict, Watchdog, Watchdogs

DOCUMENT = Path(__file__).resolve().parents[2] / 'docs' / 'safety.md'
DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}


@pytest.mark.parametrize('dog', WATCHDOGS, ids=lambda dog: dog.name)
def test_a_value_at_the_threshold_is_good_and_one_above_it_causes_the_reaction(dog: Watchdog) -> None:
    dogs, threshold = Watchdogs(DEFAULTS), dog.threshold.default
    assert dogs.check({dog.name: threshold}) == Verdict()
    assert dogs.take_problem() == ''
    end = dog.fault.default if dog.fault else 2 * threshold
    verdict = dogs.check({dog.name: (threshold + end) / 2})
    assert (
        verdict
        == {
            Reaction.REPORT: Verdict(),
            Reaction.SLOW: Verdict(speed=pytest.approx(0.5)),
            Reaction.PAUSE: Verdict(pause=dog.says),
            Reaction.HOLD: Verdict(hold=dog.says),
        }[dog.reaction]
    )
    assert dogs.trips[dog.name] == 1
    assert dogs.check({}) == Verdict()
    problem = dogs.take_problem()  # it is over, but nobody has heard of it yet
    assert problem.startswith(dog.says)
    assert dog.name in problem
    assert dogs.take_problem() == ''


@pytest.mark.parametrize('dog', [dog for dog in WATCHDOGS if dog.fault], ids=lambda dog: dog.name)
def test_above_the_second_threshold_a_fault_is_latched(dog: Watchdog) -> None:
    verdict = Watchdogs(DEFAULTS).check({dog.name: 1.01 * dog.fault.default})
    assert verdict.fault == dog.says
    assert verdict.speed == 0 or verdict.pause


def test_a_trip_is_counted_once_while_it_lasts() -> None:
    dogs = Watchdogs(DEFAULTS)
    for value in (1.0, 1.0, 0.0, 1.0, 1.5):
        dogs.check({'joint_states_age': value})
    assert dogs.trips['joint_states_age'] == 2
    assert dogs.take_worst()['joint_states_age'] == 1.5
    assert dogs.take_worst() == {}


def test_thresholds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ThresholdError, match=r'tracking_error_slow is 0\.7 and tracking_error_fault is 0\.6'):
        Watchdogs(DEFAULTS | {'tracking_error_slow': 0.7})


def test_the_table_in_the_documentation_is_the_table_in_the_code() -> None:
    rows = re.findall(r'^\| `(\w+)`: .*$', DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [dog.name for dog in WATCHDOGS]
    for dog, line in zip(WATCHDOGS, re.findall(r'^\| `\w+`: .*$', DOCUMENT.read_text(), re.MULTILINE), strict=True):
        _, first, default, reaction, second, fault_default, fault = (cell.strip() for cell in line.split('|')[1:8])
        assert (first, float(default)) == (f'`{dog.threshold.name}`', dog.threshold.default)
        assert reaction == dog.reaction.value
        if dog.fault:
            assert (second, float(fault_default), fault) == (f'`{dog.fault.name}`', dog.fault.default, 'fault')
        else:
            assert (second, fault_default, fault) == ('', '', '')
