"""The table of watchdogs: what is measured at every tick, from which value on it matters, and what happens then."""

from dataclasses import dataclass, field
from enum import Enum

from lingbot_va_ros.managed_node import Parameter


class Reaction(Enum):
    """What a value above its threshold does."""

    REPORT = 'report'  # nothing but a diagnostic; the motion copes by itself
    SLOW = 'slow'  # less speed, down to none at the second threshold
    PAUSE = 'pause'  # slow to a stop along the path; go on from there when the value is good again
    HOLD = 'hold'  # drop the plan: stop within the limits, and hold


@dataclass(frozen=True)
class Watchdog:
    """A value that is supervised.

    Attributes:
        name: of the value; in the diagnostics `<name>` is its largest value of the last second, in `unit`.
        threshold: parameter; a value above it causes `reaction`.
        fault: parameter of a second threshold, above which the fault is latched; '' if there is none.
        says: what is wrong, for the operator.
    """

    name: str
    unit: str
    threshold: Parameter
    reaction: Reaction
    says: str
    fault: Parameter | None = None


WATCHDOGS = (
    Watchdog(
        'observation_age',
        's',
        Parameter(
            'max_observation_age_s',
            3.0,
            'Motion ends when the newest image behind it is older, not counting time lost by slowing down or pausing.',
            lower=0.05,
            upper=60.0,
            live=True,
        ),
        Reaction.HOLD,
        'the motion was predicted from images that are too old',
    ),
    Watchdog(
        'starvation',
        's',
        Parameter(
            'max_starvation_s',
            2.0,
            'Waiting longer for the next chunk while a task runs is reported; the arms hold meanwhile.',
            lower=0.02,
            upper=60.0,
            live=True,
        ),
        Reaction.REPORT,
        'no chunk comes: see the diagnostics of world_model and perception',
    ),
    Watchdog(
        'tick_period',
        's',
        Parameter(
            'max_tick_period_s',
            0.03,
            'A longer time between two commands is counted; the motion is delayed by what was lost.',
            lower=0.001,
            upper=1.0,
            live=True,
        ),
        Reaction.REPORT,
        'commands come too late: this process does not get the processor in time',
    ),
    Watchdog(
        'joint_states_age',
        's',
        Parameter(
            'joint_states_timeout_s',
            0.5,
            'Motion pauses when a joint was not measured for longer.',
            lower=0.02,
            upper=10.0,
            live=True,
        ),
        Reaction.PAUSE,
        'joint states have stopped; is the robot running?',
        Parameter(
            'joint_states_fault_s',
            2.0,
            'A fault is latched when a joint was not measured for longer.',
            lower=0.05,
            upper=60.0,
            live=True,
        ),
    ),
    Watchdog(
        'arm_skew',
        's',
        Parameter(
            'max_arm_skew_s',
            0.2,
            'Motion pauses when the joint states of two arms are further apart.',
            lower=0.001,
            upper=10.0,
            live=True,
        ),
        Reaction.PAUSE,
        'the joint states of one arm lag behind those of the other',
    ),
    Watchdog(
        'tracking_error',
        'rad',
        Parameter(
            'tracking_error_slow',
            0.2,
            'Motion slows down when an arm joint is further (rad, m) from what was commanded in the last 0.2 s.',
            lower=0.0001,
            upper=10.0,
            live=True,
        ),
        Reaction.SLOW,
        'a joint does not follow: it is blocked, overloaded, or somebody moves the arm',
        Parameter(
            'tracking_error_fault',
            0.6,
            'A fault is latched when an arm joint is further (rad, m) from what was commanded in the last 0.2 s.',
            lower=0.0001,
            upper=10.0,
            live=True,
        ),
    ),
)
PARAMETERS = tuple(p for dog in WATCHDOGS for p in (dog.threshold, dog.fault) if p is not None)


class ThresholdError(ValueError):
    """A first threshold that is not below the second one."""


def check_thresholds(thresholds: dict[str, float]) -> None:
    """Check that the first reaction begins before the fault.

    Raises:
        ThresholdError: it does not; the message names both parameters.
    """
    for dog in WATCHDOGS:
        if dog.fault and thresholds[dog.threshold.name] >= thresholds[dog.fault.name]:
            raise ThresholdError(
                f'{dog.threshold.name} is {thresholds[dog.threshold.name]:g} and {dog.fault.name} is '
                f'{thresholds[dog.fault.name]:g}; the first must be below the second'
            )


@dataclass
class Verdict:
    """What the watchdogs want at one tick: a speed from 0 to 1, and reasons to pause, hold or latch a fault, or ''."""

    speed: float = 1.0
    pause: str = ''
    hold: str = ''
    fault: str = ''


@dataclass
class Watchdogs:
    """Judges the values of every tick.

    Attributes:
        thresholds: value of each parameter in PARAMETERS.
        trips: how often each watchdog went from good to bad.
        worst: largest value of each since `take_worst`.
        problem: the first one since `take_problem`, or ''.
    """

    thresholds: dict[str, float]
    trips: dict[str, int] = field(default_factory=lambda: {dog.name: 0 for dog in WATCHDOGS})
    worst: dict[str, float] = field(default_factory=dict)
    problem: str = ''
    _bad: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Check the thresholds; see `check_thresholds`."""
        check_thresholds(self.thresholds)

    def check(self, values: dict[str, float]) -> Verdict:
        """Judge the values of one tick, by the names of watchdogs; a value that is left out is good."""
        verdict = Verdict()
        for dog in WATCHDOGS:
            value = values.get(dog.name, 0.0)
            self.worst[dog.name] = max(value, self.worst.get(dog.name, 0.0))
            threshold = self.thresholds[dog.threshold.name]
            if value <= threshold:
                self._bad.discard(dog.name)
                continue
            self.trips[dog.name] += dog.name not in self._bad
            self._bad.add(dog.name)
            self.problem = self.problem or f'{dog.says} ({dog.name} is {value:.3g} {dog.unit}, at most {threshold:g})'
            self._react(verdict, dog, value, threshold)
        return verdict

    def take_worst(self) -> dict[str, float]:
        """Return the largest value of each since the last call."""
        worst, self.worst = self.worst, {}
        return worst

    def take_problem(self) -> str:
        """Return what went wrong since the last call, or ''; it may be over, a hold that it caused is not."""
        problem, self.problem = self.problem, ''
        return problem

    def _react(self, verdict: Verdict, dog: Watchdog, value: float, threshold: float) -> None:
        fault = self.thresholds[dog.fault.name] if dog.fault else None
        if fault is not None and value > fault:
            verdict.fault = verdict.fault or dog.says
        if dog.reaction is Reaction.HOLD:
            verdict.hold = verdict.hold or dog.says
        elif dog.reaction is Reaction.PAUSE:
            verdict.pause = verdict.pause or dog.says
        elif dog.reaction is Reaction.SLOW and fault is not None:
            verdict.speed = min(verdict.speed, max(0.0, (fault - value) / (fault - threshold)))
