"""Weights on disk: shards, types, and the memory that loading takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lingbot_va_core.weights import CheckpointError, load_weights, write_weights

CPU = torch.device('cpu')
# 300 MB of bf16 in 3 shards; peaks before and after are of the loading process alone.
MEASURE = """
import json, resource, sys
from pathlib import Path
import torch
from torch import nn
from lingbot_va_core.weights import load_weights
with torch.device('meta'):
    model = nn.Sequential(*[nn.Linear(2048, 2048) for _ in range(36)])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
files = sorted(Path(sys.argv[1]).glob('*.safetensors'))
before = peak()
load_weights(model, files, torch.device('cpu'), torch.bfloat16)
print(json.dumps([peak() - before, sum(weight.nbytes for weight in model.parameters()), len(files)]))
"""


def linears(count: int, width: int = 4) -> nn.Module:
    return nn.Sequential(*[nn.Linear(width, width) for _ in range(count)])


def on_meta(count: int, width: int = 4) -> nn.Module:
    with torch.device('meta'):
        return linears(count, width)


def test_large_weights_are_written_in_shards_and_read_back(tmp_path: Path) -> None:
    model = linears(5)
    where = write_weights(model.state_dict(), tmp_path, 'part', limit=170)
    files = sorted(set(where.values()))
    assert files == [f'part-0000{i}-of-00003.safetensors' for i in (1, 2, 3)]
    assert {(tmp_path / file).stat().st_mode & 0o777 for file in files} == {0o644}
    again = on_meta(5)
    load_weights(again, [tmp_path / file for file in files], CPU, torch.float32)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_weights_of_any_floating_point_type_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = {name: tensor.to(dtype) for name, tensor in linears(1).state_dict().items()}
    save_file(stored, tmp_path / 'a.safetensors')
    model = on_meta(1)
    load_weights(model, tmp_path / 'a.safetensors', CPU, torch.float32)
    assert all(torch.equal(tensor.float(), model.state_dict()[name]) for name, tensor in stored.items())


def test_integers_are_refused(tmp_path: Path) -> None:
    save_file({name: t.to(torch.int8) for name, t in linears(1).state_dict().items()}, tmp_path / 'a.safetensors')
    with pytest.raises(CheckpointError, match=r'no floating-point numbers in 0.bias \(I8\), 0.weight \(I8\)'):
        load_weights(on_meta(1), tmp_path / 'a.safetensors', CPU, torch.float32)


def test_all_that_is_wrong_is_listed_at_once_and_nothing_is_loaded(tmp_path: Path) -> None:
    stored = {**linears(9).state_dict(), '0.weight': torch.ones(5, 4), 'x': torch.ones(1)}
    save_file({n: t for n, t in stored.items() if not n.endswith('bias')}, tmp_path / 'a.safetensors')
    model = on_meta(9)
    with pytest.raises(CheckpointError) as error:
        load_weights(model, tmp_path / 'a.safetensors', CPU, torch.float32)
    message = str(error.value)
    assert 'misses 0.bias, 1.bias, 2.bias, 3.bias and 5 more and holds the unknown x' in message
    assert '0.weight is [5, 4], but its config.json asks for [4, 4]' in message
    assert all(weight.is_meta for weight in model.parameters())


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    torch.save(linears(1).state_dict(), tmp_path / 'a.safetensors')
    with pytest.raises(CheckpointError, match='cannot be read as safetensors'):
        load_weights(on_meta(1), tmp_path / 'a.safetensors', CPU, torch.float32)


def test_loading_peaks_at_little_more_than_the_weights(tmp_path: Path) -> None:
    weight, bias = torch.randn(2048, 2048).bfloat16(), torch.randn(2048).bfloat16()
    state = {f'{i}.{name}': t for i in range(36) for name, t in (('weight', weight), ('bias', bias))}
    for shard in range(3):
        part = {name: t.clone() for name, t in state.items() if int(name.split('.')[0]) % 3 == shard}
        save_file(part, tmp_path / f'part-{shard}.safetensors')
    done = subprocess.run(
        [sys.executable, '-c', MEASURE, tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    grown, size, files = json.loads(done.stdout)
    assert (size, files) == (36 * (2048 * 2048 + 2048) * 2, 3)
    assert grown <= 1.15 * size
