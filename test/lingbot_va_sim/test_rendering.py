"""The cameras show the scene, from where their intrinsics say, in any thread."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from lingbot_va_core.robot import RobotProfile, load_profile
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.rendering import CameraRig, Intrinsics
from lingbot_va_sim.simulation import Simulation

VIEWS = ('cam_high', 'cam_left_wrist', 'cam_right_wrist')


@pytest.fixture(scope='module')
def profile() -> RobotProfile:
    return load_profile('aloha')


@pytest.fixture(scope='module')
def simulation(profile: RobotProfile):
    with Simulation(profile, 'transfer_cube', seed=0) as simulation:
        yield simulation


def put(simulation: Simulation, prefix: str, x: float, y: float) -> None:
    joint = next(item.joint for item in simulation.task.objects if item.joint.startswith(prefix))
    simulation.data.joint(joint).qpos[:3] = x, y, 0.02
    mujoco.mj_forward(simulation.robot.model, simulation.data)


def pixels(image: np.ndarray, channel: int) -> np.ndarray:
    """Return (u, v) of the pixels of a primary colour, [n, 2]."""
    others = np.delete(image, channel, axis=2).max(axis=2)
    return np.argwhere((image[..., channel] > 120) & (others < 60))[:, ::-1]


def test_three_views_show_three_different_scenes(simulation: Simulation) -> None:
    images = [simulation.render(view) for view in VIEWS]
    for image in images:
        assert image.shape == (160, 240, 3)
        assert image.dtype == np.uint8
        assert image.std() > 10
    differences = [np.abs(a.astype(int) - b).mean() for a, b in ((images[0], images[1]), (images[1], images[2]))]
    assert min(differences) > 5


@pytest.mark.parametrize('x', [0.0, 0.2])
@pytest.mark.parametrize('y', [0.4, 0.6])
def test_the_head_camera_sees_the_cube_where_its_intrinsics_put_it(simulation: Simulation, x: float, y: float) -> None:
    simulation.reset(0)
    put(simulation, 'red', x, y)
    seen = pixels(simulation.render('cam_high'), 0)
    assert len(seen) > 200  # about 16 x 16
    assert (seen.min(axis=0) >= 4).all() and (seen.max(axis=0) <= [235, 155]).all()  # nowhere cut off
    with simulation.camera_rig() as rig:
        lens = rig.intrinsics('cam_high')
    camera = simulation.data.camera('cam_high')
    centre = camera.xmat.reshape(3, 3).T @ (np.array([x, y, 0.02]) - camera.xpos)  # x right, y up, z backward
    u = lens.cx + lens.fx * centre[0] / -centre[2]
    v = lens.cy - lens.fy * centre[1] / -centre[2]
    assert seen.mean(axis=0) == pytest.approx([u, v], abs=1.5)


def test_the_head_camera_sees_peg_and_socket_everywhere(profile: RobotProfile) -> None:
    with Simulation(profile, 'insertion') as simulation:
        for peg, socket in (((0.2, 0.4), (-0.2, 0.6)), ((0.2, 0.6), (-0.2, 0.4)), ((0.1, 0.5), (-0.1, 0.5))):
            put(simulation, 'red', *peg)
            put(simulation, 'blue', *socket)
            image = simulation.render('cam_high')
            for channel in (0, 2):
                seen = pixels(image, channel)
                assert len(seen) > 150
                assert (seen.min(axis=0) > 0).all() and (seen.max(axis=0) < [239, 159]).all()


def test_both_grippers_are_in_the_head_view(simulation: Simulation) -> None:
    simulation.reset(0)
    closed = simulation.render('cam_high').astype(int)
    for side in ('left', 'right'):
        for finger, position in (('left', 0.057), ('right', -0.057)):
            simulation.data.joint(f'vx300s_{side}/{finger}_finger').qpos[0] = position
    mujoco.mj_forward(simulation.robot.model, simulation.data)
    opened = simulation.render('cam_high').astype(int)
    moved = np.abs(opened - closed).max(axis=2) > 30
    assert moved[:, :120].sum() > 150
    assert moved[:, 120:].sum() > 150


def test_another_thread_renders_the_same_from_a_snapshot(simulation: Simulation) -> None:
    simulation.reset(4)
    here = simulation.render('cam_high')
    snapshot = simulation.snapshot()
    simulation.reset(5)

    def there() -> np.ndarray:
        image = np.empty((160, 240, 3), np.uint8)
        with simulation.camera_rig() as rig:
            assert rig.render('cam_high', snapshot, out=image) is image
        return image

    with ThreadPoolExecutor(1) as pool:
        assert np.array_equal(pool.submit(there).result(), here)


def test_cameras_may_have_different_sizes(profile: RobotProfile) -> None:
    cameras = (replace(profile.cameras[0], width=96, height=64), *profile.cameras[1:])
    with Simulation(replace(profile, cameras=cameras), 'transfer_cube') as simulation:
        assert [simulation.render(view).shape for view in VIEWS] == [(64, 96, 3), (160, 240, 3), (160, 240, 3)]


def test_unknown_camera_is_refused_and_closing_twice_is_harmless(profile: RobotProfile, simulation: Simulation) -> None:
    rig = CameraRig(simulation.robot.model, profile.cameras)
    with pytest.raises(SimulationError, match="camera 'top' is unknown; choose one of cam_high, cam_left_wrist"):
        rig.render('top', simulation.snapshot())
    rig.close()
    rig.close()


def test_intrinsics_of_a_known_field_of_view() -> None:
    lens = Intrinsics.from_fovy(90.0, 200, 100)
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == pytest.approx((50.0, 50.0, 99.5, 49.5))
