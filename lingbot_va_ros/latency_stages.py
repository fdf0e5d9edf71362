"""Where the time goes between a camera's image and the first command that follows from it, from a graph's messages."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

MS = 1e6  # nanoseconds
STAGES = {
    'camera': 'image stamped to images published',
    'motion': 'its instant has not come, beyond that',
    'report': 'its instant to its motion reported, beyond both',
    'perception': 'images and report published to latent frame published, without encoding',
    'encode': 'encoding of the latent frame',
    'handover': 'latent frame published to received',
    'schedule': 'received to prediction begun: the time for it has not come',
    'model': 'prediction begun to chunk published',
    'tick': 'chunk published, and its motion due, to the next control tick',
    'action': 'control tick to command published',
}
OWN = ('report', 'perception', 'handover', 'action')  # neither the camera nor the model nor waiting for an instant


@dataclass(frozen=True)
class SentChunk:
    """A chunk as it was published; times are nanoseconds since the epoch."""

    published_ns: int
    observed: int | None  # newest latent frame that entered its context
    latency_ns: int  # prediction begun to published
    first_due_ns: int  # earliest tick that can command its first action


class LatencyStages:
    """Notes when what was published, and follows each chunk back to the newest image behind it.

    All times are nanoseconds of the system clock; keys are (episode, index) of latent frames and chunks.
    """

    def __init__(self) -> None:
        self._images: dict[int, int] = {}  # stamp: when the last camera published it
        self._reports: dict[tuple[int, int], tuple[int, int]] = {}
        self._latents: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._chunks: dict[tuple[int, int], SentChunk] = {}
        self._commands: dict[tuple[int, int], tuple[int, int]] = {}
        self._encode_ms: list[float] = []

    def image(self, stamp_ns: int, published_ns: int) -> None:
        """Note an image of any camera."""
        self._images[stamp_ns] = max(published_ns, self._images.get(stamp_ns, 0))

    def report(self, key: tuple[int, int], end_ns: int, published_ns: int) -> None:
        """Note that the motion of a latent frame, which ended then, was reported."""
        self._reports[key] = end_ns, published_ns

    def latent(self, key: tuple[int, int], newest_ns: int, published_ns: int, received_ns: int) -> None:
        """Note a real latent frame whose newest video frame has this stamp."""
        self._latents[key] = newest_ns, published_ns, received_ns

    def encoding(self, milliseconds: float) -> None:
        """Note how long a latent frame took to encode, a sample of them."""
        self._encode_ms.append(milliseconds)

    def chunk(self, key: tuple[int, int], chunk: SentChunk) -> None:
        """Note a chunk."""
        self._chunks[key] = chunk

    def command(self, key: tuple[int, int], tick_ns: int, published_ns: int) -> None:
        """Note a command that belongs to a chunk; only the first one counts."""
        self._commands.setdefault(key, (tick_ns, published_ns))

    def samples(self) -> dict[str, list[float]]:
        """Return milliseconds of every stage, of `total` and of the sums `own` and `without_model` (camera and own).

        There is one value for each chunk that can be followed to its newest image.
        """
        encode = float(np.median(self._encode_ms)) * MS if self._encode_ms else 0.0
        found: dict[str, list[float]] = defaultdict(list)
        for (episode, number), chunk in self._chunks.items():
            latent = self._latents.get((episode, chunk.observed))
            command = self._commands.get((episode, number))
            if latent is None or command is None or latent[0] not in self._images:
                continue
            newest, published, received = latent
            filmed = self._images[newest]
            ended, reported = self._reports.get((episode, chunk.observed), (0, 0))  # frame 0 has no report
            due, ready = max(filmed, ended), max(filmed, reported)
            begun = chunk.published_ns - chunk.latency_ns
            received = min(received, max(begun, published))  # a prediction begins after what it is made from
            tick, sent = command
            stages = {
                'camera': filmed - newest,
                'motion': due - filmed,
                'report': ready - due,
                'perception': max(published - ready - encode, 0.0),
                'encode': min(encode, published - ready),
                'handover': received - published,
                'schedule': max(begun - received, 0),
                'model': min(chunk.latency_ns, chunk.published_ns - received),
                'tick': max(tick - max(chunk.published_ns, chunk.first_due_ns), 0),
                'action': sent - tick,
            }
            for name, duration in stages.items():
                found[name].append(duration / MS)
            own = sum(stages[name] for name in OWN)
            found['own'].append(own / MS)
            found['without_model'].append((own + stages['camera']) / MS)
            found['total'].append((sent - newest) / MS)
        return dict(found)
