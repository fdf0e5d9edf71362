"""Measuring times, and the ceilings of a machine that they are to be compared with."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

Result = TypeVar('Result')
MATRIX = {'cpu': 1024, 'cuda': 8192}  # rows and columns of the measured product
COPIED = {'cpu': 1 << 27, 'cuda': 1 << 31}  # bytes, far more than any cache
ATTEMPTS = 5


@dataclass(frozen=True)
class Ceilings:
    """What a machine was seen to reach.

    Attributes:
        flops: floating-point operations per second of a large matrix product.
        bandwidth: bytes per second read and written by a large copy.
    """

    flops: float
    bandwidth: float

    def seconds(self, flops: float, nbytes: float) -> float:
        """Return the least time that so much work takes."""
        return max(flops / self.flops, nbytes / self.bandwidth)


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """Call `work`; return its result, and the seconds until the device was done with it."""
    synchronize(device)
    began = time.perf_counter()
    result = work()
    synchronize(device)
    return result, time.perf_counter() - began


def spread(times: Sequence[float]) -> dict[str, float]:
    """Summarize seconds in ms: least, median and largest."""
    return {name: 1e3 * float(value) for name, value in
            (('min', np.min(times)), ('p50', np.median(times)), ('max', np.max(times)))}  # fmt: skip


def peak_memory_mib(device: torch.device) -> float:
    """Return the most memory that this process has held so far, on its GPU where it has one."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


@torch.inference_mode()
def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measure a matrix product in `dtype` and a copy, with the threads that torch has now; the best attempt counts."""
    size = MATRIX[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.ones(COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = [timed(lambda: left @ right, device)[1] for _ in range(ATTEMPTS)]
    copy = [timed(lambda: target.copy_(source), device)[1] for _ in range(ATTEMPTS)]
    return Ceilings(2 * size**3 / min(product), 2 * source.nbytes / min(copy))
