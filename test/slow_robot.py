"""A robot of which everything takes longer, so that inference is in time on any machine."""

from pathlib import Path

from lingbot_va_core.robot import profile_path


def slow_robot(folder: Path, factor: int) -> str:
    """Write aloha's profile with rates that are `factor` times lower; return its path."""
    text = profile_path('aloha').read_text()
    for name, rate in (('control_hz', 50.0), ('video_hz', 12.5)):
        assert f'{name}: {rate}' in text
        text = text.replace(f'{name}: {rate}', f'{name}: {rate / factor}')
    path = folder / 'slow.yaml'
    path.write_text(text)
    return str(path)
