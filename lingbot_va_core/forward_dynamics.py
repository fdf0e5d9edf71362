"""Forward dynamics: the video that given actions lead to, by flow matching with the actions in view.

Its training form is `sequence.velocities(..., forward_dynamics=True)`.
"""

from torch import Tensor

from lingbot_va_core.cache import Write
from lingbot_va_core.config import RolloutConfig
from lingbot_va_core.context import Context
from lingbot_va_core.flow_matching import Schedule, schedule, unshifted


def forward_dynamics_schedule(rollout: RolloutConfig, kept: float) -> Schedule:
    """Noise levels of `fdm_steps` on the video's shift, ending at `fdm_s`, or at the level `kept` of imagined video."""
    steps = rollout.video_steps if rollout.fdm_steps is None else rollout.fdm_steps
    if rollout.fdm_s is None:
        return schedule(steps, rollout.video_shift, s=1.0 - unshifted(kept, rollout.video_shift)).until_kept()
    return schedule(steps, rollout.video_shift, s=rollout.fdm_s, axis=rollout.video_s_axis).until_kept()


def forward_dynamics(context: Context, actions: Tensor, noise: Tensor, plan: Schedule, first: int) -> Tensor:
    """Predict the video of actions that are being executed; the cache is left as it was.

    The actions, at timestep 0, see the history and themselves; the video sees the history, itself and the actions.

    Args:
        context: holds the history of real frames and no predicted ones.
        actions: normalised [F, n, 30].
        noise: [C, F, h, w].
        plan: from `forward_dynamics_schedule`.
        first: latent-frame index of the first frame.

    Returns:
        Latents [C, F, h, w] at the plan's last noise level.
    """
    context.action(actions, 0.0, first, Write.PREDICTED, context.video_rows, head=False)
    latents, _ = context.denoise_video(noise, plan, first, keep=False)
    context.cache.drop_predicted()
    return latents
