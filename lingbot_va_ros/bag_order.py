"""Brings the messages of a bag from the order in which they were received into that of their stamps."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.sampling import RESTARTED_NS
from lingbot_va_ros.bag import Bag, nanoseconds
from lingbot_va_ros.bag_topics import BagTopics, header_ns
from lingbot_va_ros.recording_events import TOPIC as EVENTS

WAIT_NS = NANOSECONDS  # what is received so much later than others has its place by its stamp
OTHER_CLOCK_NS = NANOSECONDS  # stamps so far from log times are of another clock, such as a simulation's
JUMP_NS = 60 * NANOSECONDS  # stamps that advance by more between two messages, which came within a tenth of it
ALWAYS = 2**63 - 1
JUMP = ''  # in place of a topic: the clock has jumped, and the message says how


class Received(NamedTuple):
    """A message and its place in time: an instant of the clock of header stamps."""

    at_ns: int
    topic: str
    log_ns: int
    message: Any


class StampOrder:
    """Gives each message an instant, and lets it wait until those before it have come.

    Images and measured joints have that of their header. Commands without a stamp, and marks of the recorder that were
    stamped by another clock or before it was set, have the time of their reception, moved onto the clock of the others;
    so have commands whose stamp is more than `OTHER_CLOCK_NS` ahead of it.
    Everything else has its place behind what was received before it.

    Args:
        bag: open.
        topics: of the robot.
        marks: stamps of the recorder's events that are wanted, by log time.

    Attributes:
        early_commands: commands that came before their stamp, by another clock.
    """

    def __init__(self, bag: Bag, topics: BagTopics, marks: Mapping[int, int]) -> None:
        self._bag, self._topics, self._marks = bag, topics, marks
        self._stamped = {*topics.cameras, topics.joint_states}
        self._waiting: list[tuple[int, int, Received]] = []
        self._number = 0
        self._early: list[tuple[str, int, Any]] = []  # what has no place until the clock is known
        self._newest = 0
        self._offset: int | None = None  # of log times from stamps
        self.early_commands = 0
        self._stamps: dict[str, tuple[int, int]] = {}  # stamp and log time of each topic's last message

    def sort(self, messages: Iterable[tuple[str, int, Any]]) -> Iterator[Received]:
        """Yield messages, given as (topic, log time, message) in the order of log times; raises BagReadError.

        Where the clock jumps, all that came before is yielded first, and then the new stamp with `JUMP` for a topic.
        """
        for topic, log_ns, message in messages:
            if topic in self._stamped:
                stamp = header_ns(self._bag, topic, log_ns, message)
                if how := self._jump(topic, stamp, log_ns):
                    yield from self._release(ALWAYS)
                    yield Received(stamp, JUMP, log_ns, how)
                    self._newest, self._offset = stamp, log_ns - stamp
                self._newest = max(self._newest, stamp)
                if topic == self._topics.joint_states or self._offset is None:
                    self._offset = log_ns - stamp
                self._add(stamp, topic, log_ns, message)
                for each in self._early:
                    self._add(self._instant(*each), *each)
                self._early.clear()
            elif topic not in self._topics.commands and topic != EVENTS:
                self._add(self._newest, topic, log_ns, message)
            elif self._offset is None:
                self._early.append((topic, log_ns, message))
            else:
                self._add(self._instant(topic, log_ns, message), topic, log_ns, message)
            yield from self._release(self._newest - WAIT_NS)
        yield from self._release(ALWAYS)

    def _jump(self, topic: str, stamp: int, log_ns: int) -> str:
        """Say how the clock has jumped since a topic's last message; empty where it has not."""
        last, last_log = self._stamps.get(topic, (stamp, log_ns))
        self._stamps[topic] = stamp, log_ns
        ahead = stamp - last
        if ahead >= -RESTARTED_NS and (ahead <= JUMP_NS or log_ns - last_log >= ahead // 10):
            return ''
        self._stamps = {topic: (stamp, log_ns)}
        return f'the stamps of {self._bag.resolve(topic)} jump by {ahead / NANOSECONDS:+.3f} s'

    def _instant(self, topic: str, log_ns: int, message: Any) -> int:
        """Return the instant of a command, or of an event of the recorder."""
        if topic == EVENTS:
            stamp, here = self._marks.get(log_ns, 0), log_ns - self._offset
            return stamp if abs(stamp - here) <= OTHER_CLOCK_NS else here
        stamp = nanoseconds(message.header.stamp) if hasattr(message, 'header') else 0
        if stamp - (log_ns - self._offset) > OTHER_CLOCK_NS:
            self.early_commands += 1
        elif stamp:
            return stamp
        other_clock = abs(self._offset) > OTHER_CLOCK_NS
        return log_ns - (self._offset if other_clock else 0)

    def _add(self, at_ns: int, *received: Any) -> None:
        self._number += 1
        heapq.heappush(self._waiting, (at_ns, self._number, Received(at_ns, *received)))

    def _release(self, until_ns: int) -> Iterator[Received]:
        while self._waiting and self._waiting[0][0] <= until_ns:
            yield heapq.heappop(self._waiting)[2]
