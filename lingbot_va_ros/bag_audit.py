"""Tells what is in a bag, how regular and how synchronous it is, and whether it can become training data."""

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import ProfileError, RobotProfile
from lingbot_va_ros.bag import Bag, BagReadError, nanoseconds
from lingbot_va_ros.bag_plan import BagPlan, plan_bag
from lingbot_va_ros.bag_topics import JointNames, find_topics

GAP = 1.5  # of the usual interval: a longer one is a gap, as in perception's count of dropped images
MILLISECOND = NANOSECONDS // 1000
MAX_SKEW_MS = 40.0  # half a video period at 12.5 Hz


def audit(bag: Bag, robot: str | None = None, instruction: str | None = None) -> dict[str, Any]:
    """Look at all of an open bag.

    Returns:
        path, robot, duration_s (of log times), incomplete.
        topics: by name: type, count, rate_hz, gaps (intervals of more than 1.5 times the usual), missing (messages that
            fit into them), longest_gap_ms and at_s (since the first message of the bag), dropped (by the recorder; None
            where it noted none of this), unstamped, backwards (stamps not newer than the one before), delay_ms {p50,
            p99} of the log time behind the header stamp; None where there is no header, or too few messages. Intervals
            are those of header stamps where there are any.
        camera_skew_ms: by camera: how much later than the joints its messages are received, seen from their stamps; a
            clock that is behind shows as a positive value, and so does a slow driver.
        arm_skew_ms {p50, max}: between the stamps of both arms' joints; None where they come in one message.
        teleoperated, episodes: frames, seconds, held images, instruction and success of each.
        usable: whether it can become training data; reasons: why not, or what to know.

    Raises:
        BagReadError, ProfileError: the bag cannot be read, or names no robot.
    """
    profile = bag.profile(robot)
    topics = {name: _Timing() for name, topic in bag.topics.items() if topic.count}
    arms = _ArmSkew(bag, profile)
    known = [name for name in topics if bag.topics[name].known]
    for name, log_ns, message in bag.messages(*known):
        topics[name].add(log_ns, message)
        arms.add(name, message)
    unknown = sorted(topics.keys() - known)
    for name, log_ns in bag.arrivals(*unknown):
        topics[name].add(log_ns, None)
    dropped, drops_noted = bag.dropped, 'dropped' in bag.notes
    logs = [edge for timing in topics.values() for edge in timing.edges]
    table = {
        name: {'type': topic.kind, 'count': topic.count}
        | topics.get(name, _Timing()).report(min(logs))
        | {'dropped': dropped.get(name, 0) if drops_noted else None}
        for name, topic in sorted(bag.topics.items())
    }
    plan, problem = _plan(bag, profile, instruction)
    skews = dict(_camera_skews(bag, profile, table))
    reasons = [problem] if problem else []
    reasons += [reason.removeprefix(f'{bag.path}: ').removeprefix(f'{bag.path} ') for reason in plan.notes]
    if plan.teleoperated and not (instruction or bag.notes.get('instruction')):
        reasons.append('it does not say what was to be done; convert it with --instruction')
    if not drops_noted:
        reasons.append('its recorder did not note whether it dropped messages; gaps show those of regular topics')
    reasons += _doubts(table, skews, arms.report())
    reasons += [
        f'{name}: messages of the unknown type {bag.topics[name].kind} were counted, not read' for name in unknown
    ]
    return {
        'path': str(bag.path),
        'robot': profile.name,
        'incomplete': bag.incomplete,
        'duration_s': round((max(logs) - min(logs)) / NANOSECONDS, 3),
        'topics': table,
        'camera_skew_ms': skews,
        'arm_skew_ms': arms.report(),
        'teleoperated': plan.teleoperated,
        'episodes': [
            {
                'frames': part.frames,
                'seconds': round((part.frames - 1) * profile.clock.video_ns / NANOSECONDS, 3),
                'held': part.held,
                'instruction': part.instruction,
                'success': part.success,
            }
            for part in plan.parts
        ],
        'usable': bool(plan.parts),
        'reasons': reasons,
    }


def _plan(bag: Bag, profile: RobotProfile, instruction: str | None) -> tuple[BagPlan, str]:
    """Return the episodes, or why there is none."""
    try:
        teleoperated = not find_topics(bag, profile).reported
        text = instruction or bag.notes.get('instruction') or ('(to be given)' if teleoperated else None)
        return plan_bag(bag, profile, text), ''
    except (BagReadError, ProfileError) as error:
        return BagPlan(), str(error).removeprefix(f'{bag.path}: ').removeprefix(f'{bag.path} ')


def _doubts(table: dict[str, dict], skews: dict[str, float | None], arms: dict | None) -> Iterator[str]:
    """Yield what does not forbid a conversion, but should be looked at."""
    for name, row in table.items():
        if row['dropped']:
            yield f'the recorder dropped {row["dropped"]} messages on {name}'
    for camera, skew in skews.items():
        if skew is not None and abs(skew) > MAX_SKEW_MS:
            yield (
                f'{camera} arrives {skew:+.0f} ms after the joints, seen from the stamps, more than {MAX_SKEW_MS:g} '
                'ms: are the clocks synchronized, and are images stamped when they are taken?'
            )
    if arms is not None and arms['max'] > MAX_SKEW_MS:
        yield f'the stamps of the arms are up to {arms["max"]:.0f} ms apart'


def _camera_skews(bag: Bag, profile: RobotProfile, table: dict[str, dict]) -> Iterator[tuple[str, float | None]]:
    joints = table.get(bag.resolve(profile.joint_states_topic), {}).get('delay_ms')
    for camera in profile.cameras:
        names = (bag.resolve(camera.image_topic), bag.resolve(f'{camera.image_topic}/compressed'))
        delay = next((table[name]['delay_ms'] for name in names if name in table and table[name]['delay_ms']), None)
        yield camera.name, round(delay['p50'] - joints['p50'], 3) if delay and joints else None


class _Timing:
    """The instants of a topic: 16 bytes for each message."""

    def __init__(self) -> None:
        self._logs, self._stamps = array('q'), array('q')

    def add(self, log_ns: int, message: Any) -> None:
        """Take a message; None: one that cannot be decoded."""
        self._logs.append(log_ns)
        header = getattr(message, 'header', None)
        self._stamps.append(nanoseconds(header.stamp) if header is not None else 0)

    @property
    def edges(self) -> tuple[int, ...]:
        """Log times of the first and the last message."""
        return (self._logs[0], self._logs[-1]) if self._logs else ()

    def report(self, begin_ns: int) -> dict[str, Any]:
        """Return the numbers of `audit` for a bag that begins at this log time."""
        logs, stamps = np.array(self._logs), np.array(self._stamps)
        stamped = len(stamps) > 0 and bool(stamps.all())
        report: dict[str, Any] = {
            'rate_hz': None, 'gaps': 0, 'missing': 0, 'longest_gap_ms': None, 'at_s': None,
            'unstamped': int((stamps == 0).sum()), 'backwards': 0, 'delay_ms': None,
        }  # fmt: skip
        if stamped:
            p50, p99 = np.percentile((logs - stamps) / MILLISECOND, (50, 99)).tolist()
            report['delay_ms'] = {'p50': round(p50, 3), 'p99': round(p99, 3)}
        steps = np.diff(stamps if stamped else logs)
        report['backwards'] = int((steps <= 0).sum()) if stamped else 0
        forward = steps[steps > 0]
        if not len(forward):
            return report
        usual = float(np.median(forward))
        gaps = forward[forward > GAP * usual]
        longest = int(np.argmax(steps))
        return report | {
            'rate_hz': round(NANOSECONDS / usual, 3),
            'gaps': len(gaps),
            'missing': int((np.round(gaps / usual) - 1).sum()),
            'longest_gap_ms': round(steps[longest] / MILLISECOND, 3),
            'at_s': round((int(logs[longest]) - begin_ns) / NANOSECONDS, 3),
        }


class _ArmSkew:
    """How far apart the stamps of both arms' joints are, where each arm has messages of its own."""

    def __init__(self, bag: Bag, profile: RobotProfile) -> None:
        self._topic, self._names = bag.resolve(profile.joint_states_topic), JointNames(profile)
        self._arm = [number for number, arm in enumerate(profile.arms) for _ in arm.joints]
        self._newest: dict[int, int] = {}
        self._skews = array('q')

    def add(self, topic: str, message: Any) -> None:
        """Take a message."""
        if topic != self._topic or not hasattr(message, 'position'):
            return
        _, ours = self._names.columns(message.name)
        arms = {self._arm[joint] for joint in ours}
        if len(arms) == 1:
            self._newest[arms.pop()] = nanoseconds(message.header.stamp)
            if len(self._newest) > 1:
                self._skews.append(max(self._newest.values()) - min(self._newest.values()))

    def report(self) -> dict[str, float] | None:
        """Return the median and the largest, ms."""
        if not self._skews:
            return None
        skews = np.array(self._skews) / MILLISECOND
        return {'p50': round(float(np.median(skews)), 3), 'max': round(float(skews.max()), 3)}


def table_lines(report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table of topics for people, its head first."""
    yield ('topic', 'messages', 'Hz', 'gaps', 'missing', 'longest gap', 'dropped', 'delay p50 / p99, ms')
    for name, row in report['topics'].items():
        gap = '' if row['longest_gap_ms'] is None else f'{row["longest_gap_ms"]:.0f} ms at {row["at_s"]:.1f} s'
        delay = '' if row['delay_ms'] is None else f'{row["delay_ms"]["p50"]:.1f} / {row["delay_ms"]["p99"]:.1f}'
        rate = '' if row['rate_hz'] is None else f'{row["rate_hz"]:.2f}'
        numbers = (str(row[key]) for key in ('gaps', 'missing'))
        dropped = '' if row['dropped'] is None else str(row['dropped'])
        yield (name, str(row['count']), rate, *numbers, gap, dropped, delay)
