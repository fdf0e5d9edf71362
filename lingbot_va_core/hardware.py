"""What a measurement was made on."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

CPUINFO = Path('/proc/cpuinfo')


def describe_hardware(device: torch.device | str = 'cpu') -> dict[str, Any]:
    """Return processor, cores that this process may use, threads of torch, GPU (None: not used) and torch's version."""
    device = torch.device(device)
    return {
        'processor': _processor(),
        'cores': len(os.sched_getaffinity(0)),
        'threads': torch.get_num_threads(),
        'gpu': torch.cuda.get_device_name(device) if device.type == 'cuda' else None,
        'torch': torch.__version__,
    }


def hardware_line(hardware: dict[str, Any]) -> str:
    """Put what `describe_hardware` returns into words."""
    cores = hardware['cores']
    parts = [hardware['gpu'], hardware['processor'], f'{cores} {"core" if cores == 1 else "cores"}']
    return ', '.join(part for part in parts if part)


def _processor() -> str:
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()
