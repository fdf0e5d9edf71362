"""What the losses are computed from."""

from dataclasses import replace

import pytest
import torch

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.flow_matching import shifted
from lingbot_va_core.training.clips import Clip, Plan
from lingbot_va_core.training.objective import Objective, noised, timestep_weights
from lingbot_va_core.training.settings import ObjectiveSettings, TrainingError

FRAMES = 4
USED = torch.arange(30) % 2 == 0


def plan(given: bool = False, fdm: bool = False, chunks: tuple[int, ...] = (1, 2, 1)) -> Plan:
    return Plan(chunks, given, fdm, None, (False, True, True, True))


def clip(model: WorldModel, seed: int = 5, used: torch.Tensor = USED) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(FRAMES, *model.config.latent_shape, generator=generator)
    labels, executed = torch.randn(2, FRAMES, 16, 30, generator=generator)
    mistaken = torch.zeros(FRAMES, dtype=torch.bool)
    return Clip(latents, labels, executed, used, torch.randn(4, 12, generator=generator), seed, mistaken)


def test_noisy_frames_lie_between_data_and_noise_at_their_level(small: WorldModel) -> None:
    own = clip(small)
    example = noised(plan(), [own], ObjectiveSettings(), small.config.rollout)
    sigma = example.video.timesteps[0] / 1000
    data = own.latents.transpose(0, 1)
    expected = data + sigma[:, None, None] * example.video_target[0]  # (1 - s) x + s e = x + s (e - x)
    torch.testing.assert_close(example.video.noisy[0], expected)
    assert sigma[0] == 0 and len(set(sigma[1:].tolist())) == 3  # frames that are not predicted, levels of their own
    label = own.labels * USED
    sigma = example.action.timesteps[0] / 1000
    torch.testing.assert_close(example.action.noisy[0], label + sigma[:, None, None] * example.action_target[0])
    torch.testing.assert_close(example.action.clean[0], own.executed * USED)


def test_unused_channels_are_zero_wherever_they_go_in(small: WorldModel) -> None:
    example = noised(plan(), [clip(small)], ObjectiveSettings(), small.config.rollout)
    for tensor in (example.action.noisy, example.action.clean):
        assert not tensor[..., ~USED].any()


@pytest.mark.parametrize('unit', ['sequence', 'chunk'])
def test_half_of_the_histories_are_noisy_within_the_range_of_s(small: WorldModel, unit: str) -> None:
    settings = ObjectiveSettings(history_unit=unit)
    rollout = replace(small.config.rollout, video_shift=5.0)
    clips = [clip(small, seed) for seed in range(200)]
    times = noised(plan(chunks=(2, 2)), clips, settings, rollout).video.clean_timesteps
    noisy = times > 0
    assert 0.35 < noisy.float().mean() < 0.65
    assert times.max() <= 1000 * shifted(0.5, 5.0) + 1e-3
    assert bool((times[:, 0] == times[:, 3]).all()) == (unit == 'sequence')
    assert (times[:, 0] == times[:, 1]).all() and (times[:, 2] == times[:, 3]).all()


def test_a_given_first_frame_is_never_noisy(small: WorldModel) -> None:
    settings = ObjectiveSettings(history_share=1.0)
    example = noised(plan(given=True), [clip(small)], settings, small.config.rollout)
    assert example.video.clean_timesteps[0, 0] == 0 and (example.video.clean_timesteps[0, 1:] > 0).all()
    torch.testing.assert_close(example.video.clean[0, :, 0], example.video.noisy[0, :, 0])


def test_the_action_history_wanders_smoothly_but_not_what_is_given_or_learned(small: WorldModel) -> None:
    still, drifting = (ObjectiveSettings(executed_drift=drift) for drift in (0.0, 0.2))
    for one, other in ((plan(given=True), 1), (plan(), 0)):
        kept, wandered = (noised(one, [clip(small)], settings, small.config.rollout) for settings in (still, drifting))
        drift = (wandered.action.clean - kept.action.clean)[0]
        assert not drift[:other].any() and not drift[..., ~USED].any()
        assert drift[other:][..., USED].abs().amax(dim=(0, 1)).min() > 0
        steps = drift[other:].flatten(0, 1).diff(dim=0)
        assert steps.abs().max() < 2 * 0.2 * 5 / drift.shape[1]  # from one normal number to the next in a frame
        torch.testing.assert_close(wandered.action.noisy, kept.action.noisy)
        torch.testing.assert_close(wandered.action_target, kept.action_target)
    fdm = [noised(plan(fdm=True), [clip(small)], settings, small.config.rollout) for settings in (still, drifting)]
    torch.testing.assert_close(fdm[0].action.clean, fdm[1].action.clean)


def test_levels_in_a_range_can_be_drawn_more_often(small: WorldModel) -> None:
    settings = ObjectiveSettings(high_noise_share=1.0, high_noise=(0.8, 0.9), noise_unit='chunk')
    times = noised(plan(), [clip(small, seed) for seed in range(50)], settings, small.config.rollout).video.timesteps
    assert times[:, 1:].min() >= 800 and times[:, 1:].max() <= 900
    assert (times[:, 1] == times[:, 2]).all() and (times[:, 2] != times[:, 3]).any()


def test_the_loss_is_the_mean_square_over_predicted_frames_and_used_channels(small: WorldModel) -> None:
    settings = ObjectiveSettings(action_weight=0.5, video_weight=2.0)
    objective = Objective(small.transformer, settings)
    example = noised(plan(), [clip(small)], settings, small.config.rollout)
    total, terms = objective(example)
    changed = replace(example, action_target=example.action_target.clone(), video_target=example.video_target.clone())
    changed.action_target[..., ~USED] += 100  # neither of these counts
    changed.video_target[:, :, 0] += 100
    changed.action_target[:, 0] += 100
    torch.testing.assert_close(objective(changed)[0], total)
    torch.testing.assert_close(total, 2.0 * terms['video'] + 0.5 * terms['action'])
    changed.action_target[0, 1, 0, 0] += 100
    assert objective(changed)[1]['action'] > terms['action'] + 1


def test_mistakes_are_targets_of_forward_dynamics_alone(small: WorldModel) -> None:
    settings = ObjectiveSettings()
    objective = Objective(small.transformer, settings)
    other = clip(small, seed=6)
    mistaken = replace(clip(small), mistaken=torch.tensor([False, False, True, False]))

    def losses(fdm: bool, change: float) -> dict[str, torch.Tensor]:
        example = noised(plan(fdm=fdm), [other, mistaken], settings, small.config.rollout)
        example.video_target[1, :, 2] += change
        example.action_target[1, 2] += change
        return objective(example)[1]

    assert losses(False, 0.0) == losses(False, 100.0)
    assert losses(True, 100.0)['fdm'] > losses(True, 0.0)['fdm'] + 100
    plain = noised(plan(), [other, clip(small)], settings, small.config.rollout)
    kept = objective(plain)[1]
    assert losses(False, 0.0)['video'] < kept['video'] and losses(False, 0.0)['action'] < kept['action']


def test_forward_dynamics_has_the_loss_of_the_video_alone(small: WorldModel) -> None:
    settings = ObjectiveSettings(video_weight=0.1)
    objective = Objective(small.transformer, settings)
    example = noised(plan(fdm=True), [clip(small)], settings, small.config.rollout)
    assert not example.action.timesteps.any()
    total, terms = objective(example)
    assert list(terms) == ['fdm'] and total == terms['fdm']
    total.backward()
    assert small.transformer.action_blocks[0].attn1.to_k.weight.grad.abs().max() > 0  # the actions are looked at
    other = replace(example, action=replace(example.action, clean=example.action.clean + 1))
    assert objective(other)[0] != total


def test_video_without_actions_has_no_action_loss(small: WorldModel) -> None:
    objective = Objective(small.transformer, ObjectiveSettings())
    nothing = torch.zeros(30, dtype=torch.bool)
    example = noised(plan(), [clip(small, used=nothing)], ObjectiveSettings(), small.config.rollout)
    total, terms = objective(example)
    assert terms['action'] == 0 and total == terms['video'] > 0


def test_released_weights_have_mean_one_and_favour_the_middle() -> None:
    times = torch.arange(1.0, 1001.0)
    weights = timestep_weights(times, 'released')
    assert abs(weights.mean() - 1) < 1e-5 and weights.min() == 0
    assert weights.argmax() + 1 == 500
    assert (timestep_weights(times, 'none') == 1).all()


def test_a_frozen_video_stream_gets_no_gradients(small: WorldModel) -> None:
    objective = Objective(small.transformer, ObjectiveSettings(freeze_video=True))
    objective(noised(plan(), [clip(small)], ObjectiveSettings(), small.config.rollout))[0].backward()
    trained = {name for name, p in small.transformer.named_parameters() if p.grad is not None}
    assert trained and all('action' in name for name in trained)


def test_streams_that_share_their_weights_cannot_be_frozen_apart() -> None:
    from lingbot_va_core.config import ExpertConfig
    from lingbot_va_core.presets import TINY
    from lingbot_va_core.transformer import WorldTransformer

    shared = WorldTransformer(replace(TINY.transformer, num_layers=1, video=ExpertConfig(192, 8), action=None))
    with pytest.raises(TrainingError, match='needs an action expert'):
        Objective(shared, ObjectiveSettings(freeze_video=True))
