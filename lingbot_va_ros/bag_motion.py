"""Reads the motion in a bag as rows on the latent clock: what our graph reported, or what a leader commanded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.resampling import CutError, Resampler, Row
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.sampling import RESTARTED_NS
from lingbot_va_ros.bag import Bag, BagReadError, instant, nanoseconds
from lingbot_va_ros.bag_topics import JointNames, command_points, find_topics, header_ns
from lingbot_va_ros.conversions import MessageError, executed_array
from lingbot_va_ros.images import ImageError, image_kind

ALWAYS = 2**63 - 1
OTHER_CLOCK_NS = NANOSECONDS  # header stamps so far from log times are of another clock, such as a simulation's
JUMP_NS = 60 * NANOSECONDS  # stamps that advance by more between two messages, which came within a tenth of it
DRAIN_NS = NANOSECONDS  # images of the last frame may come so long after the end of an episode


@dataclass(frozen=True)
class Span:
    """A stretch of a bag that is wanted; instants are header stamps.

    Attributes:
        begin_ns: the first frame is not before.
        end_ns: the last frame is not behind.
        episode: number of the graph's episode, None for teleoperation.
        initial: commands in force at the beginning, as far as they are known.
    """

    begin_ns: int = 0
    end_ns: int = ALWAYS
    episode: int | None = None
    initial: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Cut:
    """Where and why a span's data was interrupted; what was received before `resumed_ns` is of another time."""

    instant_ns: int
    reason: str
    resumed_ns: int = 0


def read_motion(
    bag: Bag, profile: RobotProfile, spans: Sequence[Span], start_ns: int | None = None, stop_ns: int | None = None
) -> Iterator[tuple[Span, Row | Cut]]:
    """Yield (span, row or cut) of the spans, which do not overlap and are in order.

    The frames of a row are (log time, message) of each camera.

    Behind a cut, a teleoperated span goes on with a first row; a reported one has ended.

    Args:
        bag: open.
        profile: of the robot.
        spans: what is wanted.
        start_ns, stop_ns: log times within which messages are read.

    Raises:
        BagReadError: a topic is missing, or a message cannot be used.
    """
    reader = _Reader(bag, profile, spans)
    yield from reader.read(start_ns, stop_ns)


class _Reader:
    def __init__(self, bag: Bag, profile: RobotProfile, spans: Sequence[Span]) -> None:
        self._bag, self._profile, self._clock = bag, profile, profile.clock
        self._topics = find_topics(bag, profile)
        self._cameras = {topic: number for number, topic in enumerate(self._topics.cameras)}
        self._names = JointNames(profile)
        self._spans = list(spans)
        initial = self._spans[0].initial if self._spans else None
        self._resampler = Resampler(
            [camera.name for camera in profile.cameras],
            self._clock.video_ns,
            [joint.name for joint in profile.joints],
            self._topics.commanded(profile),
            None if initial is None else np.array(initial),
        )
        self._span: Span | None = None
        self._asked = 0  # instant of the last frame that was asked for; 0: the first one is awaited
        self._next_frame = 1  # latent frame that a report is due for
        self._draining_ns: int | None = None
        self._now = 0
        self._stamps: dict[str, tuple[int, int]] = {}  # stamp and log time of each topic's last message
        self._offset = 0  # of log times from header stamps
        self._checked: dict[str, tuple] = {}

    def read(self, start_ns: int | None, stop_ns: int | None) -> Iterator[tuple[Span, Row | Cut]]:
        topics = [*self._cameras, self._topics.joint_states, *self._topics.commands]
        if self._topics.reported:
            topics += ['episode', 'executed_actions']
        for topic, log_ns, message in self._bag.messages(*topics, start_ns=start_ns, stop_ns=stop_ns):
            if topic in self._topics.commands:
                self._on_command(topic, log_ns, message)
            elif topic == 'episode':
                yield from self._on_episode(message)
            else:
                stamp = header_ns(self._bag, topic, log_ns, message)
                yield from self._check_clock(topic, stamp, log_ns)
                if topic in self._cameras:
                    self._check_image(topic, log_ns, message)
                    self._resampler.push(self._cameras[topic], stamp, (log_ns, message))
                elif topic == 'executed_actions':
                    yield from self._on_executed(log_ns, message)
                elif found := self._names.positions(message):
                    self._offset = log_ns - stamp
                    self._resampler.joints.push(stamp, *found)
                if topic != 'executed_actions':
                    self._now = max(self._now, stamp)
            yield from self._advance()
            if self._span is None and not self._spans:
                return
        yield from self._advance(end=True)

    def _check_clock(self, topic: str, stamp: int, log_ns: int) -> Iterator[tuple[Span, Cut]]:
        last, last_log = self._stamps.get(topic, (stamp, log_ns))
        self._stamps[topic] = stamp, log_ns
        ahead = stamp - last
        if ahead < -RESTARTED_NS or (ahead > JUMP_NS and log_ns - last_log < ahead // 10):
            if self._span is not None and self._asked:
                reason = f'the stamps of {self._bag.resolve(topic)} jump by {ahead / NANOSECONDS:+.3f} s'
                yield self._span, Cut(last, reason, log_ns)
            self._resampler.clear()
            self._stamps = {topic: (stamp, log_ns)}
            self._now = stamp
            self._interrupt(stamp)

    def _interrupt(self, resume_ns: int) -> None:
        """Give the stretch up; commands of a leader go on later, an episode of the graph does not."""
        self._asked = 0
        if self._span is not None and self._span.episode is None:
            self._resampler.begin(max(resume_ns, self._span.begin_ns))
        else:
            self._span = None

    def _check_image(self, topic: str, log_ns: int, message: Any) -> None:
        """Refuse images that perception would refuse; each kind is looked at once, compressed ones when decoded."""
        kind = image_kind(message)
        if self._checked.get(topic) != kind:
            self._checked[topic] = kind
            rgb(self._bag, self._profile, topic, self._cameras[topic], log_ns, message)

    def _on_command(self, topic: str, log_ns: int, message: Any) -> None:
        kind, columns = self._topics.commands[topic]
        try:
            points = command_points(self._names, kind, columns, message)
        except ValueError as error:
            raise BagReadError(
                f'{self._bag.path}: the command on {self._bag.resolve(topic)} at {instant(log_ns)}: {error}'
            ) from error
        if points is None:
            return
        stamp = nanoseconds(message.header.stamp) if hasattr(message, 'header') else 0
        other_clock = abs(self._offset) > OTHER_CLOCK_NS
        self._resampler.commands.push(stamp or log_ns - (self._offset if other_clock else 0), *points)

    def _on_episode(self, message: Any) -> Iterator[tuple[Span, Row | Cut]]:
        if self._span is not None and message.episode == self._span.episode:
            return
        if message.episode:
            yield from self._finish()
        elif self._span is not None:
            self._draining_ns = self._now + DRAIN_NS
        found = next((span for span in self._spans if span.episode == message.episode), None)
        if found is not None:
            self._spans.remove(found)
            self._begin(found)
            self._next_frame = 1

    def _begin(self, span: Span) -> None:
        self._span, self._asked, self._draining_ns = span, 0, None
        self._resampler.begin(span.begin_ns)

    def _on_executed(self, log_ns: int, message: Any) -> Iterator[tuple[Span, Cut]]:
        span = self._span
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
        self._span, self._draining_ns = None, None

    def _advance_commanded(self, end: bool) -> Iterator[tuple[Span, Row | Cut]]:
        while True:
            if self._span is None:
                if not self._spans or (self._now < self._spans[0].begin_ns and not end):
                    return
                self._begin(self._spans.pop(0))
            span, period = self._span, self._clock.video_ns
            yield from self._take(end)
            while self._asked and self._asked + period <= min(self._now, span.end_ns):
                count = period // self._clock.action_ns
                steps = tuple(self._asked + (k + 1) * self._clock.action_ns for k in range(count))
                self._resampler.ask(steps)
                self._asked = steps[-1]
            yield from self._take(end)
            complete = self._asked and self._asked + period > span.end_ns and not self._resampler.waiting
            if not (end or complete or self._now > span.end_ns + DRAIN_NS):
                return
            self._span, self._asked = None, 0

    def _take(self, end: bool) -> Iterator[tuple[Span, Row | Cut]]:
        """Yield what is complete, until there is no more at present."""
        while self._span is not None:
            try:
                rows = self._resampler.take(self._now, end)
            except CutError as cut:
                if self._asked:
                    yield self._span, Cut(cut.instant_ns, str(cut))
                if end:
                    self._span = None
                self._interrupt(cut.instant_ns + 1)
                continue
            if not rows:
                return
            for row in rows:
                if row.first and row.instant_ns > self._span.end_ns:
                    self._span = None
                    return
                if row.first:
                    self._asked = row.instant_ns
                yield self._span, row


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
