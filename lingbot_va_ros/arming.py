"""What the action node lets the robot do: emergency stop, faults, enabling and the speed scale, without ROS."""

from dataclasses import dataclass, field

from lingbot_va_msgs.msg import ActionState

NAMES = {
    ActionState.HOLDING: 'holding',
    ActionState.MOVING: 'moving',
    ActionState.PAUSED: 'paused',
    ActionState.FAULT: 'fault',
    ActionState.E_STOPPED: 'emergency stop',
}


@dataclass
class Arming:
    """Latches and permissions.

    An emergency stop and a fault stay until `clear`. All times are nanoseconds of a steady clock, because a dead-man's
    switch must not depend on a simulated one.

    Attributes:
        require_enable: motion needs `enable` to be true, and not older than `enable_timeout_ns`.
        e_stop: what the emergency stop said last.
    """

    require_enable: bool = False
    enable_timeout_ns: int = 500_000_000
    e_stop: bool = False
    speed_scale: float = 1.0
    _e_stopped: bool = False
    _fault: str = ''
    _enable: bool = False
    _enabled_ns: int | None = None
    _pauses: dict[str, str] = field(default_factory=dict)

    @property
    def latched(self) -> bool:
        """Whether only `clear` lets the robot move again."""
        return self._e_stopped or bool(self._fault)

    def on_e_stop(self, pressed: bool) -> None:
        """Latch the stop when pressed; releasing it changes nothing but what `clear` needs."""
        self.e_stop = pressed
        self._e_stopped |= pressed

    def on_enable(self, enable: bool, now_ns: int) -> None:
        """Note the dead-man's switch."""
        self._enable, self._enabled_ns = enable, now_ns

    def on_speed_scale(self, scale: float) -> str:
        """Take the operator's speed, 0 to 1; return why another number is refused, or ''."""
        if not 0 <= scale <= 1:  # also refuses nan
            return f'speed_scale is {scale:g}; it must be from 0 to 1'
        self.speed_scale = float(scale)
        return ''

    def fault(self, reason: str) -> bool:
        """Latch a fault; return whether it is new. The first reason stays, because it caused the others."""
        if self._fault:
            return False
        self._fault = reason
        return True

    def pause(self, cause: str, reason: str) -> None:
        """Pause for a cause, or end that pause if the reason is empty."""
        if reason:
            self._pauses[cause] = reason
        else:
            self._pauses.pop(cause, None)

    def clear(self) -> str:
        """Clear both latches; return why that is refused, or ''."""
        if self.e_stop:
            return 'e_stop is still true; release it first'
        self._e_stopped, self._fault = False, ''
        return ''

    def paused(self, now_ns: int) -> str:
        """Say why motion has to wait, or ''."""
        if self.require_enable and not self._enabled(now_ns):
            return 'not enabled' if not self._enable else 'enable has not been renewed in time'
        if self.speed_scale == 0:
            return 'speed_scale is 0'
        return next(iter(self._pauses.values()), '')

    def speed(self, now_ns: int) -> float:
        """Speed of motion that is allowed now, 0 to 1."""
        return 0.0 if self.latched or self.paused(now_ns) else self.speed_scale

    def state(self, now_ns: int, moving: bool) -> tuple[int, str]:
        """Return the state, a constant of ActionState, and its reason."""
        if self._e_stopped:
            return ActionState.E_STOPPED, 'e_stop; release it and call the service reset of the action node'
        if self._fault:
            return ActionState.FAULT, f'{self._fault}; remove the cause and call the service reset of the action node'
        if reason := self.paused(now_ns):
            return ActionState.PAUSED, reason
        return (ActionState.MOVING if moving else ActionState.HOLDING), ''

    def _enabled(self, now_ns: int) -> bool:
        return self._enable and self._enabled_ns is not None and now_ns - self._enabled_ns <= self.enable_timeout_ns
