"""What is done before the first client comes."""

import logging

import pytest
import torch
from policy_client import small_model

from lingbot_va_core.config import RolloutConfig
from lingbot_va_core.text import HashedTextEncoder, KnownPrompts, TextError
from lingbot_va_ros.serving.policy_session import Policy
from lingbot_va_ros.serving.warm_up import warm_up

CAMERAS = ('head', 'wrist')


class CountedText(HashedTextEncoder):
    """Counts what it is asked for."""

    asked = 0

    def encode(self, instruction: str) -> torch.Tensor:
        self.asked += 1
        return super().encode(instruction)


class NoText(HashedTextEncoder):
    """An encoder whose weights are not there."""

    def encode(self, instruction: str) -> torch.Tensor:
        raise TextError('the weights are not there')


def policy(chunk_frames: int = 2) -> Policy:
    rollout = RolloutConfig(32, 32, 'width', 2, chunk_frames, 4, 2, 2, 8, video_guidance=5.0)
    return Policy(small_model(rollout, (0, 1)), CAMERAS, (0, 1))


@pytest.mark.parametrize('chunk_frames', [1, 2, 4])
def test_two_cycles_go_through_the_vae(chunk_frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    served = policy(chunk_frames)
    encode, lengths = served.model.vae.encode, []

    def counted(pixels: torch.Tensor, *rest: object) -> object:
        lengths.append(pixels.shape[2])
        return encode(pixels, *rest)

    monkeypatch.setattr(served.model.vae, 'encode', counted)
    assert warm_up(served) > 0
    after_the_first = [4 * (chunk_frames - 1)] if chunk_frames > 1 else []
    assert lengths == [1, *after_the_first, 4 * chunk_frames]


def test_the_encoder_is_loaded_even_where_all_prompts_are_known() -> None:
    served, encoder = policy(), CountedText(16, 8)
    served.model.text = KnownPrompts({'': torch.zeros(1, 16), 'tidy up': torch.ones(2, 16)}, encoder)
    warm_up(served)
    assert encoder.asked == 1


def test_without_an_encoder_known_prompts_are_served_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    served = policy()
    served.model.text = KnownPrompts({'tidy up': torch.ones(2, 16), '': torch.zeros(1, 16)}, NoText(16, 8))
    with caplog.at_level(logging.WARNING):
        warm_up(served)
    assert 'the instructions of the checkpoint only: the weights are not there' in caplog.text


def test_without_an_encoder_and_known_prompts_nothing_is_served() -> None:
    served = policy()
    served.model.text = NoText(16, 8)
    with pytest.raises(TextError, match='the weights are not there'):
        warm_up(served)
