"""Where a checkpoint is: local folders and Hub ids. The Hub's own client answers from a cache made here, offline."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lingbot_va_core.hub import HubError, is_hub_id, locate

SCRIPT = """
import sys
from lingbot_va_core.hub import HubError, locate
try:
    print(locate(sys.argv[1], include=['*.json']))
except HubError as error:
    print('HubError', error)
"""


def test_a_hub_id_is_told_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'out').mkdir()
    assert is_hub_id('robbyant/lingbot-va-base')
    assert not any(map(is_hub_id, ('out/model', '/out/model', './model', 'model', 'a/b/c', '../a', tmp_path)))


def test_a_local_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert locate(tmp_path) == tmp_path
    with pytest.raises(HubError, match=r'no checkpoint folder at .*/nothing; check the path, or give a Hub id'):
        locate(tmp_path / 'nothing')


def located(name: str, cache: Path) -> str:
    environment = {**os.environ, 'HF_HUB_CACHE': str(cache), 'HF_HUB_OFFLINE': '1'}
    command = [sys.executable, '-c', SCRIPT, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_a_hub_id_leads_to_its_folder_in_the_cache(tmp_path: Path) -> None:
    commit = 40 * 'a'
    repository = tmp_path / 'models--robbyant--lingbot-va-base'
    (repository / 'refs').mkdir(parents=True)
    (repository / 'refs' / 'main').write_text(commit)
    snapshot = repository / 'snapshots' / commit
    snapshot.mkdir(parents=True)
    (snapshot / 'config.json').write_text('{}')
    assert located('robbyant/lingbot-va-base', tmp_path) == str(snapshot)


def test_a_repository_that_cannot_be_reached_is_one_clear_error(tmp_path: Path) -> None:
    answer = located('robbyant/nothing', tmp_path)
    assert answer.startswith('HubError robbyant/nothing is no local folder and cannot be downloaded from the Hub (')
    assert '\n' not in answer
