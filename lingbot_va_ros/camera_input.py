"""What comes from one camera: when, whether it can be used, and what the model is shown of it."""

import time
from typing import Any

import numpy as np

from lingbot_va_core.robot import Camera
from lingbot_va_ros.camera_view import CameraView
from lingbot_va_ros.images import ImageError, image_kind

GREY = 128  # of a masked view: the middle of the range, about 0 for the model


class CameraInput:
    """Looks at the first image of each kind, and says what is wrong with it.

    Attributes:
        camera: of the profile.
        view: converts its images.
        mask: what stands for its image where that is missing and may be: grey, of the same size.
        refusal: why the newest image cannot be used, or ''.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera, self.view = camera, CameraView(camera)
        width, height = camera.view_size
        self.mask = np.full((height, width, 3), GREY, np.uint8)
        self.begin()

    def begin(self) -> None:
        """Forget what came; the calibration stays."""
        self.refusal = ''
        self._received_at, self._seen = time.monotonic(), False
        self._accepted: tuple | None = None
        self._shown: tuple[Any, np.ndarray] = (None, self.mask)

    def calibrate(self, info: Any) -> None:
        """Take a CameraInfo."""
        if self.view.calibrate(info):
            self._accepted, self._shown = None, (None, self.mask)

    def accept(self, message: Any) -> bool:
        """Note that an image came; return whether it can be used. What is refused is not encoded."""
        self._received_at, self._seen = time.monotonic(), True
        kind = image_kind(message)
        if kind == self._accepted:
            return True
        self._accepted, self.refusal = None, ''
        try:
            self.rgb(message)
        except ImageError as error:
            self.refusal = str(error)
            return False
        self._accepted = kind
        return True

    def rgb(self, message: Any) -> np.ndarray:
        """Convert an image, once if it is shown several times; raises ImageError with the name of the topic."""
        if message is not self._shown[0]:
            try:
                self._shown = message, self.view.rgb(message)
            except ImageError as error:
                self._accepted = None  # so that the next one is looked at as it comes
                raise ImageError(f'the image on {self.camera.topic} {error}') from error
        return self._shown[1]

    @property
    def last(self) -> np.ndarray | None:
        """What was shown of the newest image that could be converted; None before the first one."""
        return self._shown[1] if self._shown[0] is not None else None

    def silence(self, longest_s: float) -> str:
        """Say that nothing has come for longer, or return ''."""
        if time.monotonic() - self._received_at <= longest_s:
            return ''
        return f'{self.camera.topic} ({"stopped" if self._seen else "never came"})'
