"""The latent clock: how control periods, video frames and latent frames divide each other."""

from dataclasses import dataclass

VIDEO_FRAMES_PER_LATENT = 4
NANOSECONDS = 1_000_000_000


class ClockError(ValueError):
    """Rates that cannot share a clock."""


@dataclass(frozen=True)
class LatentClock:
    """Durations in integer nanoseconds, so that stamps never drift.

    Attributes:
        action_ns: control period.
        video_ns: time between two encoded video frames, a multiple of `action_ns`.
    """

    action_ns: int
    video_ns: int

    @classmethod
    def from_rates(cls, control_hz: float, video_hz: float) -> 'LatentClock':
        """Build the clock, or raise ClockError when a video frame does not hold a whole number of commands."""
        for name, rate in (('control_hz', control_hz), ('video_hz', video_hz)):
            if not 0 < rate <= 1000:
                raise ClockError(f'{name} is {rate}; it must be above 0 and at most 1000')
        ratio = control_hz / video_hz
        if ratio < 1 or abs(ratio - round(ratio)) > 1e-6:
            raise ClockError(
                f'control_hz {control_hz:g} is not a whole multiple of video_hz {video_hz:g} (ratio {ratio:.4g}); '
                'choose rates such as 50 and 12.5'
            )
        action_ns = round(NANOSECONDS / control_hz)
        return cls(action_ns=action_ns, video_ns=action_ns * round(ratio))

    @property
    def latent_ns(self) -> int:
        """Duration of a latent frame."""
        return self.video_ns * VIDEO_FRAMES_PER_LATENT

    @property
    def actions_per_latent(self) -> int:
        """Control periods in a latent frame."""
        return self.latent_ns // self.action_ns
