"""Where a model runs and in which type, as a person names them."""

import torch

AUTO = 'auto'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}


class DeviceError(ValueError):
    """A device that this machine lacks."""


def usable_device(name: str) -> torch.device:
    """Return a torch device such as cpu or cuda:0; raises DeviceError where nothing can be computed on it."""
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"device '{name}' cannot be used ({reason}); choose cpu") from error


def dtype_of(choice: str, device: torch.device) -> torch.dtype:
    """Return the transformer's type for a choice, AUTO or one of DTYPES, and the device that it runs on."""
    if choice == AUTO:
        return torch.float32 if device.type == 'cpu' else torch.bfloat16
    return DTYPES[choice]
