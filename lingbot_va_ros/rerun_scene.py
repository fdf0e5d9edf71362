"""What Rerun shows of a graph, live or recorded: cameras, imagined video, commands, measured joints, chunks, errors."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lingbot_va_core.robot import RobotProfile
from lingbot_va_ros.bag import nanoseconds
from lingbot_va_ros.bag_topics import JointNames
from lingbot_va_ros.images import to_rgb
from lingbot_va_ros.recorded_topics import imagined_topic

HOLD = -1  # DualArmCommand.action_index
STATES = ('idle', 'observing', 'predicting', 'executing')  # Status.state
JPEG_QUALITY = 90
COLOURS = np.array(
    [(31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194)]
)


class RerunScene:
    """Logs messages, in the classes of rclpy or of rosbags, at the time in their headers.

    Attributes:
        handlers: takes a message, by the topic's name as in the profile and in `recorded_topics`.
    """

    def __init__(self, stream: Any, profile: RobotProfile, compress: bool) -> None:
        """Lay the window out, and describe the curves.

        Args:
            stream: a rerun.RecordingStream.
            profile: of the robot.
            compress: images become JPEG, which costs time and saves nine tenths of the memory.
        """
        self._stream, self._profile, self._compress = stream, profile, compress
        self._names = JointNames(profile)
        self._measured = np.full(len(profile.joints), np.nan)
        self._chunk: tuple[int, int] | None = None  # episode and number of the one that is executed
        self.handlers: dict[str, Callable[[Any], None]] = {
            profile.joint_states_topic: self._on_joints,
            'command': self._on_command,
            'action_chunk': self._on_chunk,
            'prediction_error': self._on_error,
            'status': self._on_status,
        }
        for camera in profile.cameras:
            for topic, place in ((camera.image_topic, 'cameras'), (imagined_topic(camera), 'imagined')):
                show = self._image_handler(f'{place}/{camera.name}')
                self.handlers |= {topic: show, f'{topic}/compressed': show}
        stream.send_blueprint(
            _blueprint(profile)
        )  # in place of one that the window remembers, of another robot perhaps
        self._describe()

    def imagined(self, stamp_ns: int, images: list[np.ndarray]) -> None:
        """Show what was imagined for an instant, uint8 RGB [H, W, 3] of each camera."""
        self._at(stamp_ns)
        for camera, image in zip(self._profile.cameras, images, strict=True):
            self._show(f'imagined/{camera.name}', image)

    def _describe(self) -> None:
        import rerun as rr

        for arm in self._profile.arms:
            series = {
                'command': (self._value_names(arm), 1.5, 1.0),
                'measured': ([j.name for j in arm.joints], 1.0, 0.5),
            }
            for kind, (names, width, strength) in series.items():
                if names:
                    # Joints come last among the values, so that both curves of a joint have one colour.
                    colours = COLOURS[np.arange(-len(names), 0) % len(COLOURS)]
                    colours = (255 - strength * (255 - colours)).astype(np.uint8)
                    lines = rr.SeriesLines(
                        names=[f'{name} {kind}' for name in names], colors=colours, widths=[width] * len(names)
                    )
                    self._stream.log(f'joints/{arm.side}/{kind}', lines, static=True)
            if names := self._value_names(arm):
                marks = rr.SeriesPoints(
                    names=[f'{name} next chunk' for name in names],
                    colors=[(120, 120, 120)] * len(names),
                    markers=['diamond'] * len(names),
                    marker_sizes=[4.0] * len(names),
                )
                self._stream.log(f'joints/{arm.side}/next_chunk', marks, static=True)

    def _value_names(self, arm: Any) -> list[str]:
        names = dict(zip(self._profile.channels.tolist(), self._profile.value_names, strict=True))
        return [names[channel] for channel in arm.channels]

    def _at(self, stamp_ns: int) -> None:
        self._stream.set_time('time', timestamp=np.datetime64(stamp_ns, 'ns'))

    def _image_handler(self, place: str) -> Callable[[Any], None]:
        def show(message: Any) -> None:
            import rerun as rr

            self._at(nanoseconds(message.header.stamp))
            if hasattr(message, 'format'):
                self._stream.log(place, rr.EncodedImage(contents=bytes(message.data)))
            else:
                self._show(place, to_rgb(message))

        return show

    def _show(self, place: str, image: np.ndarray) -> None:
        import rerun as rr

        shown = rr.Image(image)
        self._stream.log(place, shown.compress(jpeg_quality=JPEG_QUALITY) if self._compress else shown)

    def _scalars(self, place: str, values: Any) -> None:
        import rerun as rr

        self._stream.log(place, rr.Scalars(values))

    def _on_joints(self, message: Any) -> None:
        found = self._names.positions(message)
        if found is None:
            return
        joints, positions = found
        self._measured[list(joints)] = positions
        self._at(nanoseconds(message.header.stamp))
        first = 0
        for arm in self._profile.arms:
            own = range(first, first + len(arm.joints))
            first = own.stop
            if any(joint in own for joint in joints):
                self._scalars(f'joints/{arm.side}/measured', self._measured[own.start : own.stop])

    def _on_command(self, message: Any) -> None:
        self._at(nanoseconds(message.header.stamp))
        values, chunk = np.asarray(message.values), (message.episode, message.chunk)
        begins = message.action_index != HOLD and chunk != self._chunk
        for arm in self._profile.arms:
            commanded = values[list(arm.channels)]
            self._scalars(f'joints/{arm.side}/command', commanded)
            if begins:
                self._scalars(f'joints/{arm.side}/next_chunk', commanded)
        if begins:
            self._chunk = chunk

    def _on_chunk(self, message: Any) -> None:
        self._at(nanoseconds(message.header.stamp))
        motion = message.latent_frames * message.actions_per_latent * nanoseconds(message.dt) * 1e-6
        self._scalars('chunk/latency', message.latency_ms)
        self._scalars('chunk/motion', motion)
        self._scalars('chunk/margin', message.margin_ms)

    def _on_error(self, message: Any) -> None:
        self._at(nanoseconds(message.header.stamp))
        self._scalars('prediction/error', message.error)
        self._scalars('prediction/still_picture', message.change)

    def _on_status(self, message: Any) -> None:
        import rerun as rr

        self._at(nanoseconds(message.header.stamp))
        progress = f'{STATES[message.state]}, {message.chunks} chunks in episode {message.episode}'
        self._stream.log('status', rr.TextLog(f'{progress}: {message.instruction or "no instruction"}'))


def _blueprint(profile: RobotProfile) -> Any:
    """Lay the window out: cameras, what was imagined for them, each arm's joints, and the world model in numbers."""
    from rerun import blueprint as rrb

    def images(place: str) -> Any:
        views = [
            rrb.Spatial2DView(origin=f'{place}/{each.name}', name=f'{each.name}: {place}') for each in profile.cameras
        ]
        return rrb.Horizontal(*views)

    joints = [
        rrb.TimeSeriesView(
            origin=f'joints/{arm.side}',
            name=f'{arm.side} arm: commanded, measured (pale), next chunk (grey)',
            plot_legend=rrb.PlotLegend(visible=False),  # it would cover the curves; they say their names
        )
        for arm in profile.arms
    ]
    model = [
        rrb.TimeSeriesView(origin='prediction', name='error of imagined frames, and of a still picture'),
        rrb.TimeSeriesView(origin='chunk', name='chunk: latency, motion, margin (ms)'),
        rrb.TextLogView(origin='status', name='world model'),
    ]
    rows = [images('cameras'), images('imagined'), rrb.Horizontal(*joints), rrb.Horizontal(*model)]
    return rrb.Blueprint(rrb.Vertical(*rows, row_shares=[3, 3, 4, 2]), collapse_panels=True)
