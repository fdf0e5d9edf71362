"""Rotary embedding."""

import math

import pytest
import torch

from lingbot_va_core.rope import action_phases, axis_dims, rotate, video_phases

CPU = torch.device('cpu')


@pytest.mark.parametrize(('head_dim', 'dims'), [(128, (44, 42, 42)), (24, (8, 8, 8)), (64, (24, 20, 20))])
def test_axes_share_a_head(head_dim: int, dims: tuple[int, int, int]) -> None:
    assert axis_dims(head_dim) == dims


def test_phases_follow_frame_row_and_column() -> None:
    phases = video_phases(24, 5, 2, 3, 4, CPU)
    token = phases[1 * 12 + 2 * 4 + 3]  # frame 6, row 2, column 3
    angles = [position * 1e4 ** (-2 * i / 8) for position in (6, 2, 3) for i in range(4)]
    expected = torch.polar(torch.ones(12), torch.tensor(angles))
    torch.testing.assert_close(token, expected, rtol=1e-5, atol=1e-6)


def test_actions_lie_between_frames_and_outside_of_the_image() -> None:
    phases = action_phases(24, 5, 2, 3, CPU)
    token = phases[1 * 3 + 0]  # first of three actions of frame 6
    angles = [position * 1e4 ** (-2 * i / 8) for position in (6.25, -1, -1) for i in range(4)]
    torch.testing.assert_close(token, torch.polar(torch.ones(12), torch.tensor(angles)), rtol=1e-5, atol=1e-6)


def test_scores_depend_on_relative_position_only() -> None:
    query, key = torch.randn(1, 1, 1, 24), torch.randn(1, 1, 1, 24)
    scores = [
        (rotate(query, video_phases(24, first + 3, 1, 1, 1, CPU)) * rotate(key, video_phases(24, first, 1, 1, 1, CPU)))
        .sum()
        .item()
        for first in (0, 1000)
    ]
    assert math.isclose(*scores, abs_tol=1e-3)
    assert not math.isclose(scores[0], (query * key).sum().item(), abs_tol=1e-3)
