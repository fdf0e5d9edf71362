"""What the tools of a ROS machine make of the repository: catkin_pkg, rosdep, rosdoc2, ament's linters."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from catkin_pkg.changelog import get_changelog_from_path
from catkin_pkg.package import parse_package
from catkin_pkg.package_version import get_forthcoming_label, update_changelog_sections

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ('lingbot_va_core', 'lingbot_va_sim', 'lingbot_va_ros', 'launch', 'setup.py')
RELEASES = {'humble': 'ubuntu:jammy', 'jazzy': 'ubuntu:noble', 'kilted': 'ubuntu:noble'}


def flake8_rules(option: str) -> list[str]:
    """What setup.cfg says for flake8, comments left out."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    lines = [line for line in config['flake8'][option].splitlines() if not line.strip().startswith('#')]
    return re.findall(r'[^\s,]+', ' '.join(lines))


@pytest.mark.parametrize('folder', ['.', 'lingbot_va_msgs'])
def test_manifests_are_valid(folder: str) -> None:
    warnings: list[str] = []
    parse_package(ROOT / folder, warnings=warnings).validate()
    assert warnings == []


def test_a_release_takes_over_the_whole_changelog(tmp_path: Path) -> None:
    source = (ROOT / 'CHANGELOG.rst').read_text()
    path = tmp_path / 'CHANGELOG.rst'
    shutil.copy(ROOT / 'CHANGELOG.rst', path)
    label = get_forthcoming_label(source)
    assert label == 'Forthcoming'  # others are skipped without a word
    update_changelog_sections({'lingbot_va': (path, get_changelog_from_path(tmp_path), label)}, '0.1.0')
    released = list(get_changelog_from_path(tmp_path, 'lingbot_va').foreach_version())
    assert [version for version, _, _ in released] == ['0.1.0']
    ((_, _, (entries,)),) = released
    assert len(list(entries)) == len(re.findall(r'^\* ', source, re.MULTILINE)) > 3


def test_the_headline_of_the_changelog_is_the_one_that_tools_look_for() -> None:
    over, title, under = (ROOT / 'CHANGELOG.rst').read_text().splitlines()[:3]
    assert title == f'Changelog for package {parse_package(ROOT).name}'
    assert over == under == '^' * len(over) and len(over) >= len(title)


def test_rosdoc2_finds_its_configuration_and_what_that_names() -> None:
    (name,) = [export.content for export in parse_package(ROOT).exports if export.tagname == 'rosdoc2']
    header, settings = yaml.safe_load_all((ROOT / name).read_text())
    assert header == {'type': 'rosdoc2 config', 'version': 1}
    assert (ROOT / settings['settings']['python_source'] / '__init__.py').is_file()
    assert [list(builder) for builder in settings['builders']] == [['sphinx']]


@pytest.mark.parametrize(('release', 'system'), RELEASES.items())
def test_all_keys_resolve(release: str, system: str) -> None:
    if not shutil.which('rosdep'):
        pytest.skip('rosdep is not installed')
    package = parse_package(ROOT)
    keys = sorted({each.name for each in package.exec_depends + package.test_depends} - {'lingbot_va_msgs'})
    command = ['rosdep', 'resolve', *keys, '--os', system, '--rosdistro', release]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if 'rosdep update' in done.stderr:
        pytest.skip('rosdep has no lists here: rosdep update')
    assert done.returncode == 0, done.stderr


def test_ament_and_ruff_follow_the_same_rules_for_docstrings() -> None:
    ruff = (ROOT / 'pyproject.toml').read_text()
    ignored = re.search(r'^ignore = \[(.*?)^\]', ruff, re.MULTILINE | re.DOTALL)[1]
    assert {rule for rule in flake8_rules('extend-ignore') if rule.startswith('D')} == set(
        re.findall(r"'(D\d+)'", ignored)
    )
    assert f"convention = '{flake8_rules('docstring-convention')[0]}'" in ruff
    assert f'line-length = {flake8_rules("max-line-length")[0]}\n' in ruff
    assert "'test/**' = ['D']" in ruff and flake8_rules('per-file-ignores') == ['test/*:D']


def test_flake8_of_ament_passes() -> None:
    linter = pytest.importorskip('ament_flake8.main', reason='ament_flake8 is for ROS machines')
    config = ['--config', str(ROOT / 'setup.cfg')]
    code, errors = linter.main_with_errors(argv=[*config, *(str(ROOT / part) for part in (*SOURCES, 'test'))])
    assert code == 0, '\n'.join(errors)


def test_pep257_of_ament_passes() -> None:
    linter = pytest.importorskip('ament_pep257.main', reason='ament_pep257 is for ROS machines')
    ignored = [rule for rule in flake8_rules('extend-ignore') if rule.startswith('D')]
    convention = ['--convention', *flake8_rules('docstring-convention'), '--add-ignore', *ignored, '--']
    assert linter.main(argv=[*convention, *(str(ROOT / part) for part in SOURCES)]) == 0


def test_linters_of_ament_are_declared() -> None:
    declared = {each.name for each in parse_package(ROOT).test_depends}
    used = set(re.findall(r"importorskip\('(\w+)\.main'", Path(__file__).read_text()))
    assert used == {name for name in declared if name.startswith('ament_')}
