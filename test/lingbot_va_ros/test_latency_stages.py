"""The way from an image to a command, split where messages were published, against a graph whose times are known."""

import pytest

from lingbot_va_ros.latency_stages import STAGES, LatencyStages, SentChunk

MS = 1_000_000
T0 = 1_700_000_000_000 * MS


def at(milliseconds: float) -> int:
    return T0 + round(milliseconds * MS)


def test_every_stage_has_its_share_and_they_add_up() -> None:
    stages = LatencyStages()
    for published in (3, 5, 4):  # three cameras
        stages.image(at(0), at(published))
    stages.report((1, 4), at(6), at(7))
    stages.encoding(20.0)
    stages.latent((1, 4), at(0), at(30), at(31))
    stages.chunk((1, 2), SentChunk(at(140), observed=4, latency_ns=100 * MS, first_due_ns=at(150)))
    stages.command((1, 2), at(156), at(158))
    stages.command((1, 2), at(176), at(178))  # the second one counts for nothing
    samples = {name: values[0] for name, values in stages.samples().items()}
    assert samples == pytest.approx({
        'camera': 5, 'motion': 1, 'report': 1, 'perception': 3, 'encode': 20, 'handover': 1, 'schedule': 9,
        'model': 100, 'tick': 6, 'action': 2, 'own': 7, 'without_model': 12, 'total': 158,
    })  # fmt: skip
    assert samples['total'] - 10 == sum(samples[name] for name in STAGES)


def test_what_cannot_be_followed_to_its_image_is_left_out() -> None:
    stages = LatencyStages()
    stages.chunk((1, 0), SentChunk(at(10), observed=None, latency_ns=0, first_due_ns=at(10)))
    stages.chunk((1, 1), SentChunk(at(20), observed=3, latency_ns=0, first_due_ns=at(10)))
    stages.command((1, 1), at(21), at(22))
    assert stages.samples() == {}
