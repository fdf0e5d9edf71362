"""Recognises a checkpoint by its content."""

import hashlib
import json
from pathlib import Path

BLOCK = 2**20
TOLD = 'training'  # in config.json: how the checkpoint came about, which decides about nothing


def checkpoint_digest(folder: Path) -> str:
    """Return the SHA-256, in hexadecimal digits, of what decides about a checkpoint's predictions.

    That is the names and contents of config.json, but for what it tells of the training, and of the safetensors files
    in the folder and below, in order. Raises OSError.
    """
    digest = hashlib.sha256()
    for file in sorted([*folder.rglob('*.safetensors'), *folder.rglob('config.json')]):
        digest.update(f'{file.relative_to(folder).as_posix()}\0'.encode())
        if file.suffix == '.json':
            digest.update(_settings(file.read_bytes()))
            continue
        with file.open('rb') as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _settings(content: bytes) -> bytes:
    try:
        document = json.loads(content)
    except ValueError:
        return content
    if isinstance(document, dict):
        document.pop(TOLD, None)
    return json.dumps(document, sort_keys=True).encode()
