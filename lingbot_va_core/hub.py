"""Where a checkpoint is: a local folder, or a repository of the Hugging Face Hub that is downloaded into its cache."""

import re
from collections.abc import Sequence
from pathlib import Path

HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]*/[\w.-]+')


class HubError(ValueError):
    """A folder or repository that cannot be found."""


def is_hub_id(source: str | Path) -> bool:
    """Tell whether `source` has the form owner/name and is not below a local folder `owner`."""
    path = Path(source)
    return bool(HUB_ID.fullmatch(str(source))) and not path.exists() and not path.parent.exists()


def locate(source: str | Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Path:
    """Return the folder of a checkpoint; of a Hub id after downloading what its cache lacks.

    Args:
        source: folder, or Hub id such as 'robbyant/lingbot-va-base'.
        include, exclude: patterns of the files to download; * matches across folders.

    Raises:
        HubError: there is no such folder or repository, or it cannot be reached.
    """
    if not is_hub_id(source):
        if not Path(source).is_dir():
            raise HubError(f'no checkpoint folder at {source}; check the path, or give a Hub id such as owner/name')
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(str(source), allow_patterns=list(include), ignore_patterns=list(exclude)))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HubError(
            f'{source} is no local folder and cannot be downloaded from the Hub ({reason}); check the name and the '
            'network, or download it elsewhere and give the folder'
        ) from error
