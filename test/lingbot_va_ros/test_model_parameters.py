"""Which model the nodes load."""

import pytest
import torch

from lingbot_va_ros.model_parameters import dtype_of


@pytest.mark.parametrize(
    ('choice', 'device', 'expected'),
    [
        ('auto', 'cpu', torch.float32),
        ('auto', 'cuda:0', torch.bfloat16),
        ('bfloat16', 'cpu', torch.bfloat16),
        ('float32', 'cuda:0', torch.float32),
    ],
)
def test_the_type_of_the_transformer_follows_the_device_unless_it_is_named(
    choice: str, device: str, expected: torch.dtype
) -> None:
    assert dtype_of(choice, torch.device(device)) == expected
