"""The base of all nodes: lifecycle, parameters, diagnostics, and a process that ends cleanly."""

import gc
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile

from lingbot_va_ros.qos import DIAGNOSTICS

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE
SIGNAL_S = 0.1  # rclpy waits in C, where Python cannot act on a signal
LEVELS = {OK: 'ok', WARN: 'warning', ERROR: 'error', STALE: 'stale'}


class RefusedError(ValueError):
    """A reason to refuse a transition, in one line for the person who reads the log."""


@dataclass(frozen=True)
class Parameter:
    """A parameter, checked when the node is created, and read-only from then on unless it is `live`."""

    name: str
    default: Any
    description: str
    lower: float | None = None
    upper: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Build the descriptor that `ros2 param describe` shows."""
        choices = f' One of: {", ".join(self.choices)}.' if self.choices else ''
        descriptor = ParameterDescriptor(description=self.description + choices, read_only=not self.live)
        if self.lower is not None and self.upper is not None:
            if isinstance(self.default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(self.lower), to_value=int(self.upper))]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.lower), to_value=float(self.upper))
                ]
        return descriptor


ROBOT = Parameter('robot', 'aloha', 'Robot profile: a name in config/robots/ or the path of a YAML file.')


def log_at(logger: Any, level: bytes, message: str) -> None:
    """Log at a diagnostic level. rclpy ties each line of code that logs to one severity, hence the branches."""
    if level == OK:
        logger.info(message)
    elif level == WARN:
        logger.warning(message)
    else:
        logger.error(message)


class ManagedNode(LifecycleNode):
    """A lifecycle node whose subclasses say what to do in `setup`, `start`, `stop` and `teardown`.

    Entities made with `publisher`, `subscription`, `timer` and `service` in `setup` are destroyed on cleanup and on
    shutdown. An exception in `setup` or `start` refuses the transition, with one line in the log.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = ()
    THREADS: ClassVar[int] = 1  # of the executor; callbacks of the default group never run at the same time

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.active = False
        self._teardown = ExitStack()
        self._kept: dict[str, Callable[[], None]] = {}  # the newest message of each latched topic, to be given again
        self._level, self._message, self._values = OK, '', {}
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        for parameter in self.PARAMETERS:
            value = self.declare_parameter(parameter.name, parameter.default, parameter.descriptor()).value
            if parameter.choices and value not in parameter.choices:
                raise RefusedError(f"{parameter.name} is '{value}'; choose one of {', '.join(parameter.choices)}")
        self.add_on_set_parameters_callback(self._on_set_parameters)

    # What subclasses say

    def own_process(self) -> None:
        """Set up the process, which is this node's alone; not called where several nodes share one."""

    def setup(self) -> None:
        """Load, warm up and create entities (configure)."""

    def start(self) -> None:
        """Begin (activate)."""

    def stop(self) -> None:
        """Stop (deactivate); must be possible at any time after `setup`."""

    def teardown(self) -> None:
        """Release what `setup` acquired beside entities (cleanup, shutdown, failed configure)."""

    def update_diagnostics(self) -> None:
        """Refresh `report` once a second, just before it is published."""

    def change(self, values: dict[str, Any]) -> None:
        """Take over new values of live parameters, within their ranges; a ValueError refuses them all."""

    # What subclasses use

    def value(self, name: str) -> Any:
        """Return a parameter's value."""
        return self.get_parameter(name).value

    def publisher(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        """Create a publisher that is silent unless the node is active."""
        publisher = self.create_lifecycle_publisher(kind, topic, qos)
        self._teardown.callback(self.destroy_lifecycle_publisher, publisher)
        return publisher

    def subscription(self, kind: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile) -> Any:
        """Create a subscription whose messages are dropped unless the node is active.

        The newest one of a latched topic comes only once, so that it is kept and given again at every activation.
        """
        latched = qos.durability == DurabilityPolicy.TRANSIENT_LOCAL

        def when_active(message: Any) -> None:
            if latched:
                self._kept[topic] = partial(callback, message)
            if self.active:
                callback(message)

        subscription = self.create_subscription(kind, topic, when_active, qos)
        self._teardown.callback(self.destroy_subscription, subscription)
        self._teardown.callback(self._kept.pop, topic, None)
        return subscription

    def timer(self, period_s: float, callback: Callable[[], None], clock: Clock | None = None) -> Any:
        """Create a timer on the node's clock (or another) that runs only while the node is active."""

        def when_active() -> None:
            if self.active:
                callback()

        timer = self.create_timer(period_s, when_active, clock=clock)
        self._teardown.callback(self.destroy_timer, timer)
        return timer

    def service(self, kind: type, name: str, callback: Callable[[Any, Any], Any]) -> Any:
        """Create a service."""
        service = self.create_service(kind, name, callback)
        self._teardown.callback(self.destroy_service, service)
        return service

    def on_teardown(self, callback: Callable[[], None]) -> None:
        """Register something to release on cleanup and shutdown, last registered first."""
        self._teardown.callback(callback)

    def report(self, level: bytes, message: str, **values: Any) -> None:
        """Set this node's diagnostic; a change of level or message to a problem is also logged."""
        if message and (level, message) != (self._level, self._message):
            log_at(self.get_logger(), level, message)
        self._level, self._message = level, message
        self._values.update(values)

    def _on_set_parameters(self, parameters: list[Any]) -> SetParametersResult:
        live = {parameter.name for parameter in self.PARAMETERS if parameter.live}
        try:
            self.change({parameter.name: parameter.value for parameter in parameters if parameter.name in live})
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Set up, or refuse and leave nothing behind."""
        try:
            self._diagnostics = self.publisher(DiagnosticArray, '/diagnostics', DIAGNOSTICS)
            self.timer(1.0, self._publish_diagnostics, self._steady)
            self.setup()
        except Exception as error:
            self._refuse('configure', error)
            self._release()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start, or refuse and stay inactive."""
        super().on_activate(state)
        try:
            self.start()
        except Exception as error:
            self._refuse('activate', error)
            self.stop()
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        gc.collect()
        gc.freeze()  # what was loaded so far stays; later collections are short
        self.active = True
        for give in list(self._kept.values()):
            give()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop."""
        self._halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and release everything, from any state."""
        self._halt()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything; the node is unconfigured afterwards."""
        self._halt()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _LifecycleNodeMixin__on_change_state(self, request: Any, response: Any) -> Any:  # noqa: N802
        # rclpy lets a transition that is impossible in the present state escape as an exception, which would end the
        # process; an exception in a callback disappears. Both are answered and logged here.
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)
        except Exception as error:
            self.get_logger().error(f'transition {request.transition.id} refused: {error}')
            response.success = False
            return response

    def _refuse(self, transition: str, error: Exception) -> None:
        """Log in one line why; an error that nobody foresaw also says where it happened."""
        foreseen = isinstance(error, (ValueError, OSError, RuntimeError))
        where = '' if foreseen else f'unexpected {type(error).__name__}, '
        self.get_logger().error(f'cannot {transition}: {where}{error}')
        if not foreseen:
            self.get_logger().debug(traceback.format_exc())

    def _halt(self) -> None:
        if self.active:
            self.active = False
            self.stop()

    def _release(self) -> None:
        self._teardown.close()
        self._teardown = ExitStack()
        self.teardown()
        self._level, self._message, self._values = OK, '', {}

    def _publish_diagnostics(self) -> None:
        self.update_diagnostics()
        status = DiagnosticStatus(
            level=self._level,
            name=f'lingbot_va: {self.get_name()}',
            message=self._message or LEVELS[self._level],
            hardware_id=self.get_namespace(),
            values=[KeyValue(key=key, value=str(value)) for key, value in self._values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def run(node_class: Callable[[], ManagedNode]) -> None:
    """Run a node in this process until SIGINT or SIGTERM; the exit status is 2 when its parameters are refused."""
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    # Both signals end `spin` by an exception, so that stopping goes through the lifecycle below.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    node, status = None, 0
    try:
        node = node_class()
        node.own_process()
        executor = SingleThreadedExecutor() if node.THREADS == 1 else MultiThreadedExecutor(node.THREADS)
        executor.add_node(node)
        while True:
            executor.spin_once(timeout_sec=SIGNAL_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (RefusedError, ParameterException) as error:
        print(f'refused: {error}', file=sys.stderr)
        status = 2
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if node is not None:
            node._halt()
            node._release()
            node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(status)


def _end(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
