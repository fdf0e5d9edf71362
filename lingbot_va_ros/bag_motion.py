"""Reads the motion in a bag as rows on the latent clock: what our graph reported, or what a leader commanded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.resampling import CutError, Resampler, Row
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.tracks import CommandTrack
from lingbot_va_ros.bag import Bag, BagReadError, instant, nanoseconds
from lingbot_va_ros.bag_order import ALWAYS, JUMP, StampOrder
from lingbot_va_ros.bag_topics import JointNames, command_points, find_topics
from lingbot_va_ros.conversions import MessageError, executed_array
from lingbot_va_ros.images import ImageError, image_kind
from lingbot_va_ros.recording_events import TOPIC as EVENTS

DRAIN_NS = NANOSECONDS  # images of the last frame may come so long after the end of an episode


@dataclass(frozen=True)
class Span:
    """A stretch of a bag that is wanted; instants are header stamps.

    Attributes:
        begin_ns: the first frame is not before.
        end_ns: the last frame is not behind.
        episode: number of the graph's episode, None for teleoperation.
        announced_ns: stamp of that episode's announcement, as numbers begin again with every graph; 0: any.
        marks: log times of the recorder's events that begin and end it; what these mean in time is seen from the
            messages around them, as the clock may have been set in between.
        stopped_ns: log time of the recorder's event behind which an episode of the graph is not wanted; 0: none.
        initial: what was commanded until its beginning, as far as it is known.
    """

    begin_ns: int = 0
    end_ns: int = ALWAYS
    episode: int | None = None
    announced_ns: int = 0
    marks: tuple[int, ...] = ()
    stopped_ns: int = 0
    initial: CommandTrack | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Cut:
    """Where and why a span's data was interrupted."""

    instant_ns: int
    reason: str


@dataclass(eq=False)
class _Wanted:
    """A span and where it lies, as far as that is known: instants of the clock of header stamps."""

    span: Span
    begin_ns: int | None
    end_ns: int = ALWAYS


def read_motion(bag: Bag, profile: RobotProfile, spans: Sequence[Span]) -> Iterator[tuple[Span, Row | Cut]]:
    """Read all of a bag; see `MotionReader`."""
    return MotionReader(bag, profile, spans).read()


class MotionReader:
    """Reads the spans of a bag that are wanted, which do not overlap and are in order.

    Args:
        bag: open.
        profile: of the robot.
        spans: what is wanted.

    Attributes:
        resumed_ns: log time of the last jump of the clock: what was received before is of another time.

    Raises:
        BagReadError: a topic is missing.
    """

    def __init__(self, bag: Bag, profile: RobotProfile, spans: Sequence[Span]) -> None:
        self._bag, self._profile, self._clock = bag, profile, profile.clock
        self._topics = find_topics(bag, profile)
        self._cameras = {topic: number for number, topic in enumerate(self._topics.cameras)}
        self._names = JointNames(profile)
        self._waiting = [
            _Wanted(
                span, None if span.marks else span.begin_ns, ALWAYS if span.marks or span.stopped_ns else span.end_ns
            )
            for span in spans
        ]
        self._resampler = Resampler(
            [camera.name for camera in profile.cameras],
            self._clock.video_ns,
            [joint.name for joint in profile.joints],
            self._topics.commanded(profile),
            spans[0].initial if spans else None,
        )
        self._current: _Wanted | None = None
        self._announced = (0, 0)  # number and stamp of the graph's last episode
        self._asked = 0  # instant of the last frame that was asked for; 0: the first one is awaited
        self._next_frame = 1  # latent frame that a report is due for
        self._draining_ns: int | None = None
        self._now = 0
        self._checked: dict[str, tuple] = {}
        stamps = {
            log_ns: stamp
            for span in spans
            for log_ns, stamp in zip(span.marks, (span.begin_ns, span.end_ns), strict=False)
        }
        stamps |= {span.stopped_ns: span.end_ns for span in spans if span.stopped_ns}
        self._marked = bool(stamps)
        self._order = StampOrder(bag, self._topics, stamps)
        self.resumed_ns = 0

    @property
    def late_commands(self) -> int:
        """Commands that count from their reception: their instant had passed already, or was far ahead."""
        return self._resampler.commands.late + self._order.early_commands

    def read(self, start_ns: int | None = None) -> Iterator[tuple[Span, Row | Cut]]:
        """Yield (span, row or cut); the frames of a row are (log time, message) of each camera.

        Behind a cut, a teleoperated span goes on with a first row; a reported one has ended.

        Args:
            start_ns: log time from which messages are read.

        Raises:
            BagReadError: a message cannot be used.
        """
        topics = [
            *self._cameras,
            self._topics.joint_states,
            *self._topics.commands,
            *([EVENTS] if self._marked else []),
        ]
        if self._topics.reported:
            topics += ['episode', 'executed_actions']
        messages = self._bag.messages(*topics, start_ns=start_ns)
        for at_ns, topic, log_ns, message in self._order.sort(messages):
            if topic == JUMP:
                yield from self._on_jump(at_ns, log_ns, message)
            elif topic in self._topics.commands:
                self._on_command(at_ns, topic, log_ns, message)
            elif topic == EVENTS:
                self._on_mark(at_ns, log_ns)
            elif topic == 'episode':
                yield from self._on_episode(message)
            elif topic == 'executed_actions':
                yield from self._on_executed(log_ns, message)
            else:
                if topic in self._cameras:
                    self._check_image(topic, log_ns, message)
                    self._resampler.push(self._cameras[topic], at_ns, (log_ns, message))
                elif found := self._names.positions(message):
                    self._resampler.joints.push(at_ns, *found)
                self._now = max(self._now, at_ns)
            yield from self._advance()
            if self._current is None and not self._waiting:
                return
        yield from self._advance(end=True)

    def _on_jump(self, at_ns: int, log_ns: int, how: str) -> Iterator[tuple[Span, Cut]]:
        self.resumed_ns = log_ns
        current = self._current
        if current is not None and (self._asked or current.span.episode is not None):
            yield current.span, Cut(self._now, how)
        if current is not None and current.end_ns != ALWAYS:  # it ends on the clock as it was
            self._current = None
        for wanted in self._waiting:
            if wanted.span.marks and wanted.begin_ns is not None:
                wanted.begin_ns = at_ns
        self._resampler.clear()
        self._now = at_ns
        self._interrupt(at_ns)

    def _interrupt(self, resume_ns: int) -> None:
        """Give the stretch up; commands of a leader go on later, an episode of the graph does not."""
        self._asked = 0
        if self._current is not None and self._current.span.episode is None:
            self._resampler.begin(resume_ns)
        else:
            self._current = None

    def _on_mark(self, at_ns: int, log_ns: int) -> None:
        for wanted in (*([self._current] if self._current else []), *self._waiting):
            if wanted.span.marks[:1] == (log_ns,):
                wanted.begin_ns = at_ns
            if log_ns in (*wanted.span.marks[1:], wanted.span.stopped_ns):
                wanted.end_ns = at_ns

    def _check_image(self, topic: str, log_ns: int, message: Any) -> None:
        """Refuse images that perception would refuse; each kind is looked at once, compressed ones when decoded."""
        kind = image_kind(message)
        if self._checked.get(topic) != kind:
            self._checked[topic] = kind
            rgb(self._bag, self._profile, topic, self._cameras[topic], log_ns, message)

    def _on_command(self, at_ns: int, topic: str, log_ns: int, message: Any) -> None:
        kind, columns = self._topics.commands[topic]
        try:
            points = command_points(self._names, kind, columns, message)
        except ValueError as error:
            raise BagReadError(
                f'{self._bag.path}: the command on {self._bag.resolve(topic)} at {instant(log_ns)}: {error}'
            ) from error
        if points is not None:
            self._resampler.commands.push(at_ns, *points)
            self._resampler.fold(self._now)

    def _on_episode(self, message: Any) -> Iterator[tuple[Span, Row | Cut]]:
        announced = message.episode, nanoseconds(message.header.stamp)
        if announced == self._announced:  # sent again
            return
        if message.episode:
            self._announced = announced
            yield from self._finish()
        elif self._current is not None:
            self._draining_ns = self._now + DRAIN_NS
        spans = [(message.episode, 0), announced]
        found = next((each for each in self._waiting if (each.span.episode, each.span.announced_ns) in spans), None)
        if found is not None:
            self._waiting.remove(found)
            self._begin(found)
            self._next_frame = 1

    def _begin(self, wanted: _Wanted) -> None:
        self._current, self._asked, self._draining_ns = wanted, 0, None
        self._resampler.begin(wanted.begin_ns)

    def _on_executed(self, log_ns: int, message: Any) -> Iterator[tuple[Span, Cut]]:
        span = self._current.span if self._current else None
        if span is None or message.episode != span.episode or message.latent_index < self._next_frame:
            return
        begin = nanoseconds(message.header.stamp)
        if message.latent_index > self._next_frame:
            yield span, Cut(begin, f'the report of latent frame {self._next_frame} was lost')
            self._interrupt(begin)
            return
        try:
            actions = executed_array(message, self._clock)
            stamps = [nanoseconds(stamp) for stamp in message.video_stamps]
            steps = _step_instants(begin, stamps, self._clock.video_ns // self._clock.action_ns)
            if not np.isfinite(actions).all():
                raise MessageError(f'executed actions of frame {message.latent_index} are not finite')
        except MessageError as error:
            raise BagReadError(f'{self._bag.path}: executed_actions at {instant(log_ns)}: {error}') from error
        for part, rows in zip(steps, np.split(actions, len(steps)), strict=True):
            self._resampler.ask(part, rows)
        self._next_frame += 1

    def _advance(self, end: bool = False) -> Iterator[tuple[Span, Row | Cut]]:
        if not self._topics.reported:
            yield from self._advance_commanded(end)
            return
        yield from self._take(end)
        if self._draining_ns is not None and (self._now > self._draining_ns or not self._resampler.waiting):
            yield from self._finish()

    def _finish(self) -> Iterator[tuple[Span, Row | Cut]]:
        yield from self._take(end=True)
        self._current, self._draining_ns = None, None

    def _advance_commanded(self, end: bool) -> Iterator[tuple[Span, Row | Cut]]:
        while True:
            if self._current is None:
                begin = self._waiting[0].begin_ns if self._waiting else None
                if begin is None or (self._now < begin and not end):
                    return
                self._begin(self._waiting.pop(0))
            wanted, period = self._current, self._clock.video_ns
            yield from self._take(end)
            while self._asked and self._asked + period <= min(self._now, wanted.end_ns):
                count = period // self._clock.action_ns
                steps = tuple(self._asked + (k + 1) * self._clock.action_ns for k in range(count))
                self._resampler.ask(steps)
                self._asked = steps[-1]
            yield from self._take(end)
            complete = self._asked and self._asked + period > wanted.end_ns and not self._resampler.waiting
            if not (end or complete or self._now > wanted.end_ns + DRAIN_NS):
                return
            self._current, self._asked = None, 0

    def _take(self, end: bool) -> Iterator[tuple[Span, Row | Cut]]:
        """Yield what is complete, until there is no more at present."""
        while self._current is not None:
            span = self._current.span
            try:
                rows = self._resampler.take(self._now, end)
            except CutError as cut:
                if self._asked or span.episode is not None:
                    yield span, Cut(cut.instant_ns, str(cut))
                if end:
                    self._current = None
                self._interrupt(cut.instant_ns + 1)
                continue
            if not rows:
                return
            for row in rows:
                if row.instant_ns > self._current.end_ns:
                    end_ns, self._current = self._current.end_ns, None
                    if span.stopped_ns:
                        yield span, Cut(end_ns, 'the recorded episode ended before the task')
                    return
                if row.first:
                    self._asked = row.instant_ns
                yield span, row


def _step_instants(begin_ns: int, stamps: list[int], steps: int) -> list[tuple[int, ...]]:
    """Return the ends of the control periods that make up each video frame of a report, evenly between its stamps."""
    edges = [begin_ns, *stamps]
    if any(later <= earlier for earlier, later in pairwise(edges)):
        raise MessageError('its video stamps do not increase')
    return [
        tuple(earlier + (later - earlier) * (k + 1) // steps for k in range(steps))
        for earlier, later in pairwise(edges)
    ]


def rgb(bag: Bag, profile: RobotProfile, topic: str, camera: int, log_ns: int, message: Any) -> np.ndarray:
    """Return a camera's message as data: uint8 RGB [H, W, 3] of the camera's `view_size`.

    Raises:
        BagReadError: it cannot be converted, has another size than the profile says, or cannot be rectified.
    """
    try:
        return bag.view(profile.cameras[camera]).rgb(message)
    except ImageError as error:
        raise BagReadError(f'{bag.path}: the image on {bag.resolve(topic)} at {instant(log_ns)} {error}') from error
