"""Which episodes of a data set a bag becomes: found before anything is written."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lingbot_va_core.clock import NANOSECONDS, VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.datasets.layout import latent_frames
from lingbot_va_core.resampling import Row
from lingbot_va_core.robot import RobotProfile
from lingbot_va_ros.bag import Bag, BagReadError, instant, nanoseconds
from lingbot_va_ros.bag_motion import Cut, MotionReader, Span
from lingbot_va_ros.bag_order import ALWAYS, WAIT_NS
from lingbot_va_ros.bag_topics import find_topics
from lingbot_va_ros.episode_bag import announcements
from lingbot_va_ros.recording_events import TOPIC as EVENTS
from lingbot_va_ros.recording_events import RecordedEpisode, RecordedEpisodes, RecordingEventError

NOTHING = 'there is no instant with an image of every camera, measured joints and actions'
MARGIN_NS = WAIT_NS + NANOSECONDS  # of log times, before the first image of a part


@dataclass(frozen=True)
class Part:
    """What becomes one episode of a data set.

    Attributes:
        bag: as the user gave it.
        span: the first and the last frame of it.
        start_ns: log time from which messages are needed.
        frames: video frames, 1 more than a multiple of four.
        held: images that are repeated.
        success: None when nobody said.
        attributes: what is noted with the episode.
    """

    bag: Path
    span: Span
    start_ns: int
    frames: int
    held: int
    instruction: str
    success: bool | None
    attributes: dict


@dataclass(frozen=True)
class BagPlan:
    """What a bag becomes, and what of it is left out, a line for each reason.

    Attributes:
        teleoperated: a leader's commands make the motion, and not our own graph.
    """

    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    teleoperated: bool = False


@dataclass(frozen=True)
class _Stretch:
    """A span and what is known about it before its data is read."""

    name: str
    span: Span
    instruction: str
    success: bool | None
    attributes: dict


@dataclass(frozen=True)
class _Mark:
    """An episode of the recorder, and the log times within which it lies."""

    episode: RecordedEpisode
    begin_ns: int
    end_ns: int = ALWAYS

    def __str__(self) -> str:
        return f'episode {self.episode.number} of the recording'


def plan_bag(bag: Bag, profile: RobotProfile, instruction: str | None = None) -> BagPlan:
    """Go through a bag once, without decoding images.

    Args:
        bag: open.
        profile: of the robot.
        instruction: of episodes for which the bag has none.

    Raises:
        BagReadError: a topic is missing, a message cannot be used, or an episode has no instruction.
    """
    teleoperated = not find_topics(bag, profile).reported
    plan = BagPlan(teleoperated=teleoperated)
    marks = _marks(bag)
    for mark in marks:
        if not mark.episode.kept:
            plan.notes.append(f'{bag.path}: {mark} was discarded, and is left out')
    if teleoperated:
        stretches = list(_marked(bag, marks, instruction))
    else:
        stretches = list(_announced(bag, marks, instruction, plan.notes))
    known = {id(stretch.span): stretch for stretch in stretches}
    found: set[int] = set()
    current: _Growing | None = None
    reader = MotionReader(bag, profile, [stretch.span for stretch in stretches])
    for span, item in reader.read():
        found.add(id(span))
        if isinstance(item, Cut):
            plan.notes.append(f'{bag.path}: {item.reason} at {instant(item.instant_ns)}; the episode is cut there')
        elif item.first:
            _keep(plan, current)
            current = _Growing(bag.path, known[id(span)], item, reader.resumed_ns)
        else:
            current.add(item)
    _keep(plan, current)
    plan.notes.extend(
        f'{bag.path}: {stretch.name}: {NOTHING}, and it is left out'
        for stretch in stretches
        if stretch.attributes and id(stretch.span) not in found
    )
    if reader.late_commands:
        plan.notes.append(
            f'{bag.path}: {reader.late_commands} commands were received more than {WAIT_NS / NANOSECONDS:g} s after '
            'their stamp, or before it; they count from then on'
        )
    if not plan.parts:
        why = '' if plan.notes else f': {NOTHING}'
        plan.notes.append(f'{bag.path} holds no episode of at least one latent frame{why}')
    return plan


def _marks(bag: Bag) -> list[_Mark]:
    episodes, marks = RecordedEpisodes(), {}
    try:
        for _, log_ns, message in bag.messages(EVENTS):
            episode = episodes.read(message.data)
            before = marks.get(episode.number, _Mark(episode, log_ns))
            ends = log_ns if before.end_ns == ALWAYS and episode.end_ns is not None else before.end_ns
            marks[episode.number] = replace(before, episode=episode, end_ns=ends)
    except RecordingEventError as error:
        raise BagReadError(f'{bag.path}: {bag.resolve(EVENTS)}: {error}') from error
    return list(marks.values())


def _marked(bag: Bag, marks: list[_Mark], instruction: str | None) -> Iterator[_Stretch]:
    """Yield what the recorder's events mark and keep; without events, all of the bag."""
    text = bag.notes.get('instruction') or instruction
    if not text:
        raise BagReadError(f'{bag.path} does not say what was to be done; say it with --instruction')
    if not marks:
        yield _Stretch('', Span(), text, None, {})
    for mark in marks:
        episode = mark.episode
        if episode.kept:
            ends = (ALWAYS, ()) if episode.end_ns is None else (episode.end_ns, (mark.end_ns,))
            span = Span(episode.start_ns, ends[0], marks=(mark.begin_ns, *ends[1]))
            yield _Stretch(str(mark), span, text, episode.success, {'recorded_episode': episode.number})


def _announced(bag: Bag, marks: list[_Mark], instruction: str | None, notes: list[str]) -> Iterator[_Stretch]:
    """Yield the episodes that our graph announced; they belong to the marks within which they were received."""
    announced = announcements(bag)
    solved = [log_ns for _, log_ns, message in bag.messages('task_success') if message.data]
    judged = bag.has('task_success')
    empty = [mark for mark in marks if mark.episode.kept]
    for i, (log_ns, message) in enumerate(announced):
        if not message.episode:
            continue
        name = f'task {message.task} at {instant(nanoseconds(message.header.stamp))}'
        mark = next((mark for mark in marks if mark.begin_ns <= log_ns < mark.end_ns), None)
        if marks and (mark is None or not mark.episode.kept):
            if mark is None:
                notes.append(f'{bag.path}: {name} is in no episode of the recording, and is left out')
            continue
        # A task whose context was restarted goes on in the next episode, and only its last one can have solved it.
        later = next((later for later in announced[i + 1 :] if later[1].episode), None)
        last = later is None or later[1].task != message.task or later[1].episode <= message.episode  # another graph
        success = last and any(log_ns <= at and (later is None or at < later[0]) for at in solved) if judged else None
        if mark is not None:
            empty = [other for other in empty if other != mark]
            if mark.episode.success is not None:
                success = last and mark.episode.success
        text = message.instruction or bag.notes.get('instruction') or instruction
        if not text:
            raise BagReadError(f'{bag.path}: task {message.task} has no instruction; say it with --instruction')
        begin = nanoseconds(message.header.stamp)
        span = Span(begin, episode=message.episode, announced_ns=begin)
        if mark is not None and mark.episode.end_ns is not None:
            span = replace(span, end_ns=mark.episode.end_ns, stopped_ns=mark.end_ns)
        yield _Stretch(
            name,
            span,
            text,
            success,
            {'task': message.task, 'episode': message.episode, 'announced_ns': log_ns},
        )
    notes.extend(f'{bag.path}: {mark}: no task began within it' for mark in empty)


class _Growing:
    """A part in the making."""

    def __init__(self, bag: Path, stretch: _Stretch, first: Row, resumed_ns: int) -> None:
        self._bag, self._stretch, self._first, self._resumed = bag, stretch, first, resumed_ns
        self._instants, self._held = [first.instant_ns], [first.held]

    def add(self, row: Row) -> None:
        """Take a row."""
        self._instants.append(row.instant_ns)
        self._held.append(row.held)

    def part(self) -> Part | None:
        """Return what there is, up to the last whole latent frame; None if there is none."""
        count = latent_frames(len(self._instants))
        if not count:
            return None
        frames = 1 + count * VIDEO_FRAMES_PER_LATENT
        first, attributes = self._first, dict(self._stretch.attributes)
        log_ns = min([log for log, _ in first.frames] + [attributes.pop('announced_ns', 2**63)])
        span = self._stretch.span
        span = Span(first.instant_ns, self._instants[frames - 1], span.episode, span.announced_ns, initial=first.track)
        return Part(
            bag=self._bag,
            span=span,
            start_ns=max(log_ns - MARGIN_NS, self._resumed),
            frames=frames,
            held=sum(self._held[:frames]),
            instruction=self._stretch.instruction,
            success=self._stretch.success,
            attributes={'bag': self._bag.name} | attributes,
        )

    def __str__(self) -> str:
        return f'{self._bag}: the stretch at {instant(self._instants[0])} has {len(self._instants)} video frames'


def _keep(plan: BagPlan, growing: '_Growing | None') -> None:
    if growing is None:
        return
    part = growing.part()
    if part is None:
        plan.notes.append(f'{growing}, less than a latent frame, and is left out')
    else:
        plan.parts.append(part)
