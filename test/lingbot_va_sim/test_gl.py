"""The OpenGL backend is found, respected or reported, in processes of their own."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_EGL = {'__EGL_VENDOR_LIBRARY_FILENAMES': os.devnull}  # libglvnd then finds no driver
PROGRAM = """
import os
from lingbot_va_core.robot import load_profile
from lingbot_va_sim.errors import RenderError
from lingbot_va_sim.simulation import Simulation
with Simulation(load_profile('aloha'), 'transfer_cube') as simulation:
    simulation.step()
    try:
        print('rendered', simulation.render('cam_high').std() > 10, os.environ['PYOPENGL_PLATFORM'])
    except RenderError as error:
        print('refused', error)
"""


def run(program: str = PROGRAM, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ('MUJOCO_GL', 'PYOPENGL_PLATFORM')}
    environment |= {'PYTHONPATH': str(ROOT)} | variables
    done = subprocess.run(
        [sys.executable, '-c', program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ''
    return done.stdout.strip()


def have_osmesa() -> bool:
    try:
        ctypes.CDLL('libOSMesa.so.8')
    except OSError:
        return False
    return True


@pytest.mark.parametrize('before', ['', 'import mujoco'])
def test_egl_is_the_default(before: str) -> None:
    assert run(before + PROGRAM) == 'rendered True egl'


def test_without_egl_osmesa_renders_or_the_error_names_both() -> None:
    output = run(**NO_EGL)
    if have_osmesa():
        assert output == 'rendered True osmesa'
    else:
        assert output.startswith('refused no OpenGL context')
        for words in ('tried egl (', ' and osmesa (', 'apt-get install', 'libosmesa6'):
            assert words in output


def test_osmesa_by_name_renders_or_says_what_is_missing() -> None:
    output = run(MUJOCO_GL='osmesa')
    if have_osmesa():
        assert output == 'rendered True osmesa'
    else:
        assert output.startswith('refused no OpenGL context for the cameras; tried osmesa (')


@pytest.mark.parametrize(
    ('variables', 'words'),
    [
        ({'MUJOCO_GL': 'egl', **NO_EGL}, 'no OpenGL context for the cameras; tried egl ('),
        ({'MUJOCO_GL': 'egl', 'MUJOCO_EGL_DEVICE_ID': '99'}, 'devices gives a context, MUJOCO_EGL_DEVICE_ID is 99'),
        ({'MUJOCO_GL': 'glfw'}, "MUJOCO_GL is 'glfw'; choose one of egl, osmesa or unset it"),
        ({'MUJOCO_GL': 'disable'}, 'MUJOCO_GL=disable turns cameras off'),
    ],
)
def test_a_chosen_backend_is_respected_and_its_failure_reported(variables: dict[str, str], words: str) -> None:
    output = run(**variables)
    assert output.startswith('refused ')
    assert words in output
    assert '\n' not in output
