"""Which parts of a recording are episodes: events that the recorder writes into the bag, and what they say to readers.

A recording goes on between episodes; events only mark it. Nothing is lost when somebody presses a key too late, and
what was discarded can be kept after all.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

TOPIC = 'recording_events'  # std_msgs/String, latched: {"event": ..., "episode": from 1, "stamp": nanoseconds}
NOTES_TOPIC = 'recording_notes'  # std_msgs/String, latched: what the bag's metadata has under custom_data, as JSON
START, STOP, KEEP, DISCARD, SUCCESS, FAILURE = 'start', 'stop', 'keep', 'discard', 'success', 'failure'
EVENTS = (START, STOP, KEEP, DISCARD, SUCCESS, FAILURE)


class RecordingEventError(ValueError):
    """An event that does not fit what was recorded so far, or that cannot be read."""


@dataclass(frozen=True)
class RecordedEpisode:
    """A part of a bag; instants are nanoseconds of the clock of header stamps.

    Attributes:
        number: counts up from 1 within the bag.
        end_ns: None while it is open, or where the recording ended first.
        kept: False when it was discarded.
        success: None when nobody said.
    """

    number: int
    start_ns: int
    end_ns: int | None = None
    kept: bool = True
    success: bool | None = None


class RecordedEpisodes:
    """The episodes of a recording, in order; `apply` takes one event after the other."""

    def __init__(self) -> None:
        self._episodes: list[RecordedEpisode] = []

    def __iter__(self) -> Iterable[RecordedEpisode]:
        return iter(self._episodes)

    @property
    def running(self) -> bool:
        """Whether an episode is open."""
        return bool(self._episodes) and self._episodes[-1].end_ns is None

    def apply(self, event: str, stamp_ns: int) -> str:
        """Take an event and return it as the recorder writes it.

        `start` opens an episode and `stop` ends it; it is kept unless it is discarded. `keep`, `discard`, `success` and
        `failure` are about the open episode or else the last one; the first two end it.

        Raises:
            RecordingEventError: an unknown event, a start within an episode, or any other event without one.
        """
        if event not in EVENTS:
            raise RecordingEventError(f"event is '{event}'; choose one of {', '.join(EVENTS)}")
        if event == START:
            if self.running:
                raise RecordingEventError(f'episode {self._episodes[-1].number} is open; stop it before the next start')
            self._episodes.append(RecordedEpisode(len(self._episodes) + 1, stamp_ns))
        elif not self._episodes or (event == STOP and not self.running):
            raise RecordingEventError(f'{event}: no episode {"is open" if event == STOP else "was started"}')
        else:
            self._episodes[-1] = self._changed(self._episodes[-1], event, stamp_ns)
        return json.dumps({'event': event, 'episode': self._episodes[-1].number, 'stamp': stamp_ns})

    def read(self, text: str) -> RecordedEpisode:
        """Take an event as the recorder wrote it, and return the episode that it is about.

        Raises:
            RecordingEventError: it is not what the recorder writes.
        """
        try:
            entry = json.loads(text)
            event, stamp_ns = entry['event'], int(entry['stamp'])
        except (ValueError, KeyError, TypeError) as error:
            raise RecordingEventError(f"'{text:.80}' on {TOPIC} is no event of a recording: {error}") from error
        self.apply(event, stamp_ns)
        return self._episodes[-1]

    @staticmethod
    def _changed(episode: RecordedEpisode, event: str, stamp_ns: int) -> RecordedEpisode:
        if event in (SUCCESS, FAILURE):
            return replace(episode, success=event == SUCCESS)
        end = stamp_ns if episode.end_ns is None else episode.end_ns
        return replace(episode, end_ns=end, kept=episode.kept if event == STOP else event == KEEP)


def recorded_episodes(texts: Iterable[str]) -> list[RecordedEpisode]:
    """Return the episodes that a bag's events mark, given the data of all messages of `TOPIC` in order.

    A bag without events marks none: then it is one recording, and all of it counts.

    Raises:
        RecordingEventError: a message is not what the recorder writes.
    """
    episodes = RecordedEpisodes()
    for text in texts:
        episodes.read(text)
    return list(episodes)
