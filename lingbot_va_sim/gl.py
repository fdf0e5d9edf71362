"""Finds a way to an OpenGL context without a display: EGL, else OSMesa."""

import ctypes
import importlib
import os
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from lingbot_va_sim.errors import RenderError

REMEDY = 'install a driver, on Debian or Ubuntu: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri, or libosmesa6'
UNSET = ('', 'enable', 'enabled', 'on', 'true', '1')  # what MuJoCo understands as no choice
OFF = ('disable', 'disabled', 'off', 'false', '0')

# EGL/egl.h, EGL/eglext.h, GL/osmesa.h
EGL_PLATFORM_DEVICE_EXT = 0x313F
EGL_OPENGL_API = 0x30A2
EGL_SURFACE_TYPE, EGL_PBUFFER_BIT = 0x3033, 0x0001
EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT = 0x3040, 0x0008
EGL_NONE = 0x3038
OSMESA_RGBA = 0x1908


def create_context(width: int, height: int) -> Any:
    """Create an OpenGL context that can render `width` x `height` pixels and make it current in this thread.

    MUJOCO_GL is respected if it is set. The search is done once in a process.

    Raises:
        RenderError: no context can be had; the message says what was tried and what to install.
    """
    context = _backend().GLContext(width, height)
    context.make_current()
    return context


@cache
def _backend() -> ModuleType:
    requested = os.environ.get('MUJOCO_GL', '').lower().strip()
    if requested in OFF:
        raise RenderError(f'MUJOCO_GL={requested} turns cameras off; unset it to render')
    if requested not in (*PROBES, *UNSET):
        raise RenderError(f"MUJOCO_GL is '{requested}'; choose one of {', '.join(PROBES)} or unset it")
    tried = []
    for name in PROBES if requested in UNSET else (requested,):
        try:
            PROBES[name]()
            return importlib.import_module(f'mujoco.{name}')
        except (OSError, ImportError, AttributeError) as error:
            tried.append(f'{name} ({error})')
    raise RenderError(f'no OpenGL context for the cameras; tried {" and ".join(tried)}; {REMEDY}')


# A process can load one set of OpenGL functions only. The probes therefore ask the libraries privately, before MuJoCo
# and PyOpenGL commit themselves.


def _probe_egl() -> None:
    """Create a context on the device that MuJoCo will take, or raise OSError."""
    egl = ctypes.CDLL('libEGL.so.1')
    query_devices = _extension(egl, 'eglQueryDevicesEXT', ctypes.c_uint)
    get_display = _extension(egl, 'eglGetPlatformDisplayEXT', ctypes.c_void_p)
    devices, count = (ctypes.c_void_p * 10)(), ctypes.c_int()
    query_devices(len(devices), devices, ctypes.addressof(count))
    chosen = os.environ.get('MUJOCO_EGL_DEVICE_ID')
    for index, device in enumerate(devices[: count.value]):
        if chosen in (None, str(index)):
            display = ctypes.c_void_p(get_display(EGL_PLATFORM_DEVICE_EXT, device, None))
            if display and egl.eglInitialize(display, None, None):
                works = _creates_context(egl, display)
                egl.eglTerminate(display)
                if works:
                    return
    which = '' if chosen is None else f', MUJOCO_EGL_DEVICE_ID is {chosen}'
    raise OSError(f'none of {count.value} devices gives a context{which}')


def _extension(egl: ctypes.CDLL, name: str, result: type) -> Callable[..., Any]:
    """Return a function of three arguments that libEGL does not export by name."""
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(name.encode())
    if not address:
        raise OSError(f'libEGL lacks {name}')
    return ctypes.CFUNCTYPE(result, *[ctypes.c_void_p] * 3)(address)


def _creates_context(egl: ctypes.CDLL, display: ctypes.c_void_p) -> bool:
    wanted = (EGL_SURFACE_TYPE, EGL_PBUFFER_BIT, EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT, EGL_NONE)
    config, count = ctypes.c_void_p(), ctypes.c_int()
    egl.eglBindAPI(EGL_OPENGL_API)
    egl.eglChooseConfig(display, (ctypes.c_int * len(wanted))(*wanted), ctypes.byref(config), 1, ctypes.byref(count))
    egl.eglCreateContext.restype = ctypes.c_void_p
    context = egl.eglCreateContext(display, config, None, None) if count.value else None
    if context:
        egl.eglDestroyContext(display, ctypes.c_void_p(context))
    return bool(context)


def _probe_osmesa() -> None:
    """Create a context, or raise OSError."""
    osmesa = ctypes.CDLL('libOSMesa.so.8')
    osmesa.OSMesaCreateContextExt.restype = ctypes.c_void_p
    context = osmesa.OSMesaCreateContextExt(OSMESA_RGBA, 24, 8, 0, None)
    if not context:
        raise OSError('OSMesaCreateContextExt failed')
    osmesa.OSMesaDestroyContext(ctypes.c_void_p(context))


PROBES = {'egl': _probe_egl, 'osmesa': _probe_osmesa}
