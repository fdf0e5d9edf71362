"""The hashed text encoder."""

import torch

from lingbot_va_core.text import HashedTextEncoder

ENCODER = HashedTextEncoder(dim=16, length=6)


def test_rows_past_the_text_are_zero() -> None:
    rows = ENCODER.encode('lift the cube')
    assert rows.shape == (6, 16)
    assert rows.dtype == torch.float32
    assert rows[:3].abs().sum(dim=1).min() > 0
    assert not rows[3:].any()
    assert not ENCODER.encode('').any()


def test_text_gives_the_same_rows_everywhere() -> None:
    expected = [1.1911, 0.7803, -0.9129, -0.1081]
    torch.testing.assert_close(ENCODER.encode('cube')[0, :4], torch.tensor(expected), rtol=0, atol=1e-4)


def test_words_and_their_order_matter_but_case_and_punctuation_do_not() -> None:
    rows = ENCODER.encode('Lift the cube!')
    assert torch.equal(rows, ENCODER.encode('  lift the, cube'))
    assert not torch.equal(rows, ENCODER.encode('the lift cube'))
    assert not torch.equal(rows, ENCODER.encode('lift the ball'))


def test_words_past_the_length_are_dropped() -> None:
    assert torch.equal(ENCODER.encode('a b c d e f g h'), ENCODER.encode('a b c d e f'))
