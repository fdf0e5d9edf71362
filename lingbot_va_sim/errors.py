"""What the simulation refuses, in one line for the user."""


class SimulationError(ValueError):
    """A robot, task, camera or seed that cannot be simulated."""


class RenderError(SimulationError):
    """No OpenGL context for the cameras could be had."""
