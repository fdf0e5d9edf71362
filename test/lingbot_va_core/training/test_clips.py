"""Which clips are drawn."""

from dataclasses import replace

import pytest
import torch

from lingbot_va_core.training.clips import HELD_OUT, TRAIN, ClipSampler, TrainingEpisode, split_episodes
from lingbot_va_core.training.settings import ClipSettings, TrainingError

TEXTS = {'': torch.zeros(2, 3), 'go': torch.ones(2, 3)}
SETTINGS = ClipSettings(frames=5, largest_chunk=3)


def episode(frames: int = 9, number: int = 0) -> TrainingEpisode:
    """Latents and actions tell the episode and the frame; starts are negative."""
    index = 100.0 * number + torch.arange(frames)
    latents = index.view(-1, 1, 1, 1).expand(-1, 2, 1, 1)
    actions = index.view(-1, 1, 1).expand(-1, 4, 30)
    used = torch.ones(30, dtype=torch.bool)
    mistaken = torch.arange(frames) == 3
    return TrainingEpisode(f'episode {number}', latents, -latents - 1, actions, actions + 0.5, used, 'go', mistaken)


def sampler(*sources: tuple[list[TrainingEpisode], float], **changes: object) -> ClipSampler:
    return ClipSampler(sources or [([episode()], 1.0)], TEXTS, replace(SETTINGS, **changes), seed=0)


def test_chunks_are_of_every_size_of_the_range_and_add_up() -> None:
    plans = [sampler().plan(TRAIN, step, 0) for step in range(100)]
    assert {max(plan.chunks) for plan in plans} == {1, 2, 3}
    assert all(sum(plan.chunks) == 5 == len(plan.predicted) for plan in plans)


@pytest.mark.parametrize(('fdm', 'first'), [(0.0, 2), (1.0, 1)])
def test_clips_that_begin_like_an_episode_have_their_first_frame_given(fdm: float, first: int) -> None:
    drawn = sampler(start_share=1.0, fdm_share=fdm, smallest_chunk=2, largest_chunk=2)
    plan = drawn.plan(TRAIN, 0, 0)
    assert plan.given and plan.fdm == bool(fdm) and plan.chunks[0] == first
    assert plan.predicted == (False, True, True, True, True)
    seen = set()
    for step in range(60):
        clip = drawn.clip(plan, TRAIN, step, 0, 0)
        frames = clip.latents[:, 0, 0, 0]
        assert frames[0] == -(frames[1] - 1) - 1  # the frame before the second one, encoded on its own
        assert not clip.labels[0].any() and not clip.executed[0].any() and clip.labels[1].any()
        seen.add(int(frames[1]) - 1)
    assert seen == {0, 1, 2, 3, 4}


def test_other_clips_have_a_first_chunk_of_history() -> None:
    plans = [sampler(start_share=0.0, fdm_share=0.0).plan(TRAIN, step, 0) for step in range(50)]
    for plan in plans:
        assert plan.predicted == tuple(i >= plan.chunks[0] for i in range(5))
    assert {plan.chunks[0] for plan in plans} == {1, 2, 3}
    everything = sampler(start_share=0.0, fdm_share=0.0, first_chunk=True).plan(TRAIN, 0, 0)
    assert all(everything.predicted)


def test_labels_and_executed_actions_stay_apart() -> None:
    drawn = sampler(start_share=0.0)
    clip = drawn.clip(drawn.plan(TRAIN, 0, 0), TRAIN, 0, 0, 0)
    assert torch.equal(clip.executed, clip.labels + 0.5)


def test_mistakes_stay_with_their_frame() -> None:
    drawn = sampler(start_share=0.0)
    for step in range(20):
        clip = drawn.clip(drawn.plan(TRAIN, step, 0), TRAIN, step, 0, 0)
        assert torch.equal(clip.mistaken, clip.latents[:, 0, 0, 0] == 3)


def test_without_latents_of_their_own_clips_begin_where_an_episode_does() -> None:
    settings = replace(SETTINGS, start_share=1.0)
    drawn = ClipSampler([([episode(9, 1), episode(6, 2)], 1.0)], TEXTS, settings, seed=0, start_anywhere=False)
    clips = [drawn.clip(drawn.plan(TRAIN, step, 0), TRAIN, step, 0, 0) for step in range(30)]
    assert {float(clip.latents[1, 0, 0, 0]) for clip in clips} == {101.0, 201.0}
    within = replace(drawn.plan(TRAIN, 0, 0), given=False)
    assert len({float(drawn.clip(within, TRAIN, step, 0, 0).latents[1, 0, 0, 0]) for step in range(30)}) == 7


def test_clips_of_an_episodes_beginning_are_drawn_more_often_if_told() -> None:
    drawn = sampler(start_share=0.0, early_share=0.9, early_frames=2)
    firsts = [int(drawn.clip(drawn.plan(TRAIN, step, 0), TRAIN, step, 0, 0).latents[0, 0, 0, 0]) for step in range(200)]
    assert {0, 1, 2, 3, 4} == set(firsts)
    early = sum(first < 2 for first in firsts) / len(firsts)
    assert 0.85 < early < 1.0  # 0.9 + 0.1 * 2 / 5
    assert 0.3 < sum(first == 0 for first in firsts) / len(firsts) < 0.65


def test_clips_with_nothing_to_learn_are_not_drawn_and_the_first_of_the_others_are_early() -> None:
    corrected = replace(episode(12, 1), mistaken=torch.arange(12) < 7)
    wrong = replace(episode(12, 2), mistaken=torch.ones(12, dtype=torch.bool))
    for early_share, firsts in ((0.0, {3, 4, 5, 6, 7}), (1.0, {3, 4})):
        drawn = sampler(([corrected, wrong], 1.0), start_share=0.0, early_share=early_share, early_frames=2)
        clips = [drawn.clip(drawn.plan(TRAIN, step, 0), TRAIN, step, 0, 0) for step in range(100)]
        assert {int(clip.latents[0, 0, 0, 0]) - 100 for clip in clips} == firsts
        assert not any(clip.mistaken.all() for clip in clips)
    with pytest.raises(TrainingError, match='all is mistaken'):
        sampler(([wrong], 1.0))


def test_data_sets_are_drawn_by_weight_and_too_short_episodes_never() -> None:
    drawn = sampler(([episode(9, 1), episode(4, 2)], 3.0), ([episode(9, 5)], 1.0), start_share=0.0)
    plan = drawn.plan(TRAIN, 0, 0)
    numbers = [int(drawn.clip(plan, TRAIN, step, 0, 0).latents[0, 0, 0, 0]) // 100 for step in range(400)]
    assert set(numbers) == {1, 5}
    assert 0.7 < numbers.count(1) / 400 < 0.8


def test_text_is_dropped_as_often_as_told() -> None:
    drawn = sampler(text_dropout=0.25)
    plan = drawn.plan(TRAIN, 0, 0)
    dropped = [not drawn.clip(plan, TRAIN, step, 0, 0).text.any() for step in range(400)]
    assert 0.2 < sum(dropped) / 400 < 0.3


def test_draws_follow_from_seed_step_and_place_alone() -> None:
    one, other = sampler(), sampler()
    for _ in range(5):
        one.plan(TRAIN, 7, 0)
    plan = one.plan(TRAIN, 3, 1)
    assert plan == other.plan(TRAIN, 3, 1)
    first, second = (s.clip(plan, TRAIN, 3, 1, 2) for s in (one, other))
    assert torch.equal(first.latents, second.latents) and first.seed == second.seed
    seeds = {one.clip(plan, stream, 3, 1, i).seed for stream in (TRAIN, HELD_OUT) for i in range(4)}
    assert len(seeds) == 8


def test_episodes_that_are_all_too_short_are_named() -> None:
    with pytest.raises(TrainingError, match=r'episode 0: no episode .* 5 latent frames; the longest has 4'):
        sampler(([episode(4)], 1.0))


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(TrainingError, match='nothing to train on'):
        sampler(([episode()], 0.0))


def test_held_out_episodes_are_the_same_in_every_run_and_disjoint() -> None:
    kept, left = split_episodes(20, 0.1)
    assert (kept, left) == split_episodes(20, 0.1)
    assert len(left) == 2 and sorted(kept + left) == list(range(20))
    assert split_episodes(1, 0.5) == ([0], [])
    assert len(split_episodes(3, 0.01)[1]) == 1
    assert split_episodes(3, 0.0)[1] == []
