"""What makes a checkpoint another one, and what does not."""

from pathlib import Path

from lingbot_va_core.checkpoint_digest import checkpoint_digest


def test_a_digest_changes_with_every_part_of_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / 'config.json').write_text('{}')
    (tmp_path / 'a.safetensors').write_bytes(b'1')
    digests = [checkpoint_digest(tmp_path)]
    (tmp_path / 'a.safetensors').write_bytes(b'2')
    digests.append(checkpoint_digest(tmp_path))
    (tmp_path / 'a.safetensors').rename(tmp_path / 'b.safetensors')
    digests.append(checkpoint_digest(tmp_path))
    for content in ('{"mode": 1}', '{"mode": 2}', 'broken'):
        (tmp_path / 'config.json').write_text(content)
        digests.append(checkpoint_digest(tmp_path))
    assert len(set(digests)) == 6


def test_what_is_only_told_changes_no_digest(tmp_path: Path) -> None:
    (tmp_path / 'config.json').write_text('{"mode": 1, "name": "a"}')
    first = checkpoint_digest(tmp_path)
    (tmp_path / 'README.md').write_text('a card')
    (tmp_path / 'config.json').write_text('{"name": "a",\n "mode": 1, "training": [{"seed": 3}]}')
    assert checkpoint_digest(tmp_path) == first
