"""The simulated robot of an evaluation."""

from dataclasses import replace

import numpy as np

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.plant import SimulatedPlant
from lingbot_va_sim.simulation import Simulation


def test_its_images_are_framed_as_the_profile_says() -> None:
    profile = load_profile('aloha')
    small = [replace(camera, width=48, height=32) for camera in profile.cameras]
    cut = replace(small[0], crop=(4, 2, 40, 28))
    profile = replace(profile, cameras=(cut, *small[1:]))
    with Simulation(profile, 'transfer_cube') as simulation, simulation.camera_rig() as rig:
        plant = SimulatedPlant(simulation, rig)
        plant.begin(3)
        images = plant.images()
        assert np.array_equal(images[0], simulation.render('cam_high')[2:30, 4:44])
        assert [image.shape for image in images] == [(28, 40, 3), (32, 48, 3), (32, 48, 3)]
