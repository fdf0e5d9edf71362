"""One arm of a robot, read from URDF or MJCF: its joints and frames as a MuJoCo model without shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from lingbot_va_core.limits import JointLimits
from lingbot_va_core.robot.profile import NO_OFFSET
from lingbot_va_core.rotations import IDENTITY, from_wxyz, multiply, to_matrices, to_wxyz, unit_quaternions

if TYPE_CHECKING:
    import mujoco

TOOL = 'lingbot_va_tool'  # the site that is added to the model
# What kinematics do not need, in an order in which nothing refers to what is gone.
SUPERFLUOUS = (
    'keys', 'sensors', 'actuators', 'tendons', 'equalities', 'pairs', 'excludes', 'skins', 'flexes', 'cameras',
    'lights', 'geoms', 'meshes', 'hfields', 'materials', 'textures',
)  # fmt: skip


class KinematicsError(ValueError):
    """A robot description that cannot be read, or lacks a joint or frame."""


@dataclass(frozen=True)
class Chain:
    """The joints that move a tool. All names are those of the robot description.

    Attributes:
        side: 'left' or 'right'.
        joints: of the arm, without the gripper, in the order of the vectors that are passed.
        tool_frame: body, link or site that carries the tool.
        base_frame: body, link or site in which its pose is expressed; must not move with the joints.
        offset: of the tool in `tool_frame`, x y z and quaternion x y z w; m.
    """

    side: str
    joints: tuple[str, ...]
    tool_frame: str
    base_frame: str
    offset: tuple[float, ...] = NO_OFFSET


def arm_model(path: Path, chain: Chain) -> 'mujoco.MjModel':
    """Compile a robot in which nothing but the joints of the chain is free, with the tool as a site.

    Raises:
        KinematicsError: the file cannot be read or lacks a joint or frame.
    """
    import mujoco

    try:
        spec = mujoco.MjSpec.from_file(str(path))
    except (ValueError, OSError) as error:
        raise KinematicsError(f'{path} cannot be read: {_first_line(error)}') from error
    for kind in SUPERFLUOUS:
        for element in list(getattr(spec, kind)):
            spec.delete(element)
    names = [joint.name for joint in spec.joints]
    if missing := [name for name in chain.joints if name not in names]:
        raise KinematicsError(f'{path} has no joint {", ".join(missing)}; its joints are {", ".join(names)}')
    for joint in list(spec.joints):
        if joint.name not in chain.joints:
            spec.delete(joint)
        elif joint.type not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
            raise KinematicsError(f'{path}: joint {joint.name} neither turns about nor slides along one axis')
    _add_tool(spec, path, chain.tool_frame)
    spec.compiler.fusestatic = False
    spec.compiler.boundmass, spec.compiler.boundinertia = 1e-3, 1e-6  # some bodies had their mass from their shapes
    try:
        model = spec.compile()
    except ValueError as error:
        raise KinematicsError(f'{path} is no valid robot: {_first_line(error)}') from error
    _place_tool(model, chain.tool_frame, chain.offset)
    return model


def file_limits(path: Path, model: 'mujoco.MjModel', joints: Sequence[str]) -> JointLimits:
    """Return what the file says about joints; MJCF knows positions only, URDF velocities as well."""
    lower, upper, velocity = (np.full(len(joints), sign * np.inf) for sign in (-1, 1, 1))
    for i, name in enumerate(joints):
        joint = model.joint(name).id
        if model.jnt_limited[joint]:
            lower[i], upper[i] = model.jnt_range[joint]
    root = ElementTree.parse(path).getroot()
    if root.tag == 'robot':
        speeds = {joint.get('name'): joint.find('limit').get('velocity')
                  for joint in root.iter('joint') if joint.find('limit') is not None}  # fmt: skip
        velocity[:] = [float(speeds.get(name) or 0) or np.inf for name in joints]  # 0 means that nobody measured it
    return JointLimits(lower, upper, velocity, np.full(len(joints), np.inf))


def levers(model: 'mujoco.MjModel', joints: Sequence[str]) -> np.ndarray:
    """Return how far the tool moves at most when a joint moves by one unit, wherever all joints are, [joints]; m.

    For a joint that turns this is no less than its largest distance from the tool: the lengths of all links between
    them. With a joint that slides there is no such bound here, and all are infinite.
    """
    import mujoco

    ids = [model.joint(name).id for name in joints]
    if (model.jnt_type[ids] != mujoco.mjtJoint.mjJNT_HINGE).any():
        return np.full(len(ids), np.inf)
    found, tool = np.zeros(len(ids)), model.site(TOOL).id
    length, body = float(np.linalg.norm(model.site_pos[tool])), int(model.site_bodyid[tool])
    while body:
        own = [i for i, joint in enumerate(ids) if model.jnt_bodyid[joint] == body]
        length += 2 * sum(float(np.linalg.norm(model.jnt_pos[ids[i]])) for i in own)  # anchors beside the origin
        found[own] = length
        length += float(np.linalg.norm(model.body_pos[body]))
        body = int(model.body_parentid[body])
    return found


def fixed_frame(path: Path, model: 'mujoco.MjModel', name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the position [3] and the axes (columns) [3, 3] of a body, link or site in the world.

    Raises:
        KinematicsError: there is no such frame, or it moves with the joints.
    """
    import mujoco

    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    bodies, sites = _names(model)
    if name in bodies:
        body = bodies.index(name)
        position, matrix = data.xpos[body], data.xmat[body]
    elif name in sites:
        site = sites.index(name)
        body, position, matrix = int(model.site_bodyid[site]), data.site_xpos[site], data.site_xmat[site]
    else:
        raise KinematicsError(f'{path} has no body, link or site {name}; its bodies are {", ".join(bodies)}')
    if model.body_weldid[body] != 0:
        raise KinematicsError(f'{path}: base frame {name} moves with the joints of the arm; choose one that does not')
    return position.copy(), matrix.reshape(3, 3).copy()


def _add_tool(spec: 'mujoco.MjSpec', path: Path, frame: str) -> None:
    """Add the tool as a site to the body that a frame is, or that carries it."""
    carrier = spec.body(frame) or next((site.parent for site in spec.sites if site.name == frame), None)
    if carrier is None:
        names = ', '.join(body.name for body in spec.bodies)
        raise KinematicsError(f'{path} has no body, link or site {frame}; its bodies are {names}')
    carrier.add_site(name=TOOL)


def _place_tool(model: 'mujoco.MjModel', frame: str, offset: tuple[float, ...]) -> None:
    """Move the tool to its offset in the frame."""
    tool, offset = model.site(TOOL).id, np.array(offset)
    position, rotation = np.zeros(3), IDENTITY
    bodies, sites = _names(model)
    if frame not in bodies:
        site = sites.index(frame)
        position, rotation = model.site_pos[site], from_wxyz(model.site_quat[site])
    model.site_pos[tool] = position + to_matrices(rotation) @ offset[:3]
    model.site_quat[tool] = to_wxyz(multiply(rotation, unit_quaternions(offset[3:])))
    model.site_sameframe[tool] = 0  # mjSAMEFRAME_NONE: no shortcut, it is not where the body is


def _names(model: 'mujoco.MjModel') -> tuple[list[str], list[str]]:
    """Names of all bodies and of all sites."""
    return [model.body(i).name for i in range(model.nbody)], [model.site(i).name for i in range(model.nsite)]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
