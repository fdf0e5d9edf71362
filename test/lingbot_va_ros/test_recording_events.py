"""What operators say about a recording, and what readers make of it."""

import json

import pytest

from lingbot_va_ros.recording_events import RecordedEpisode, RecordedEpisodes, RecordingEventError, recorded_episodes


def written(*events: tuple[str, int]) -> list[str]:
    """What a recorder writes for (event, stamp)."""
    episodes = RecordedEpisodes()
    return [episodes.apply(event, stamp) for event, stamp in events]


def test_episodes_are_read_as_they_were_marked() -> None:
    texts = written(
        ('start', 10), ('stop', 20), ('success', 21), ('start', 30), ('discard', 40), ('start', 50), ('failure', 60)
    )  # fmt: skip
    assert json.loads(texts[3]) == {'event': 'start', 'episode': 2, 'stamp': 30}
    assert recorded_episodes(texts) == [
        RecordedEpisode(1, 10, 20, kept=True, success=True),
        RecordedEpisode(2, 30, 40, kept=False),
        RecordedEpisode(3, 50, None, success=False),
    ]


def test_what_was_discarded_can_be_kept_after_all() -> None:
    (episode,) = recorded_episodes(written(('start', 1), ('discard', 2), ('keep', 5)))
    assert (episode.kept, episode.end_ns) == (True, 2)


@pytest.mark.parametrize(
    ('events', 'message'),
    [
        ([('stop', 1)], 'no episode is open'),
        ([('success', 1)], 'no episode was started'),
        ([('start', 1), ('start', 2)], 'episode 1 is open'),
        ([('start', 1), ('keep', 2), ('stop', 3)], 'no episode is open'),
        ([('begin', 1)], "event is 'begin'"),
    ],
)
def test_events_that_do_not_fit_are_refused(events: list[tuple[str, int]], message: str) -> None:
    with pytest.raises(RecordingEventError, match=message):
        written(*events)


@pytest.mark.parametrize('text', ['start', '[]', '{"event": "start"}', '{"event": "start", "stamp": "now"}'])
def test_foreign_messages_are_refused(text: str) -> None:
    with pytest.raises(RecordingEventError, match='no event of a recording'):
        recorded_episodes([text])
