"""What is declared, against what is imported; what is installed, against what is in the repository."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('lingbot_va_core', 'lingbot_va_sim', 'lingbot_va_ros')
OURS = {*FOLDERS, 'lingbot_va_msgs'}
SHARED = tuple(name for name in ('config', 'launch', 'tools', 'checkpoints') if (ROOT / name).is_dir())
# Imported name: name for pip, rosdep key. None: it has none there.
THIRD_PARTY = {
    'PIL': ('pillow', 'python3-pil'),
    'av': ('av', None),
    'cv2': ('opencv-python-headless', 'python3-opencv'),
    'cv_bridge': ('cv-bridge', 'cv_bridge'),
    'diffusers': ('diffusers', None),
    'fast_simplification': ('fast-simplification', None),
    'ftfy': ('ftfy', None),
    'gym_aloha': ('gym-aloha', None),
    'huggingface_hub': ('huggingface_hub', 'python3-huggingface-hub-pip'),
    'launch': (None, 'launch'),
    'launch_ros': (None, 'launch_ros'),
    'message_filters': (None, 'message_filters'),
    'mink': ('mink', None),
    'msgpack': ('msgpack', 'python3-msgpack'),
    'mujoco': ('mujoco', 'python3-mujoco-pip'),
    'numpy': ('numpy', 'python3-numpy'),
    'pyarrow': ('pyarrow', None),
    'rich': ('rich', 'python3-rich'),
    'rosbags': ('rosbags', 'python3-rosbags-pip'),
    'safetensors': ('safetensors', None),
    'tensorboardX': ('tensorboardX', 'python3-tensorboardX-pip'),
    'tokenizers': ('tokenizers', None),
    'torch': ('torch', 'python3-pytorch-pip'),
    'transformers': ('transformers', 'python3-transformers-pip'),
    'websockets': ('websockets', None),
    'yaml': ('PyYAML', 'python3-yaml'),
}
ROS, ROS_DATA = 'requirements-ros.txt', 'requirements-ros-data.txt'
# Imported only where a person asked for it: name with pip, and the file that pins it.
OPTIONAL = {'rerun': ('rerun-sdk', 'requirements-view.txt')}


def imports(folder: str) -> set[str]:
    """Return the top-level modules that a folder's files import, the standard library's and ours left out."""
    found = set()
    for path in (ROOT / folder).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split('.')[0])
    return found - OURS - set(sys.stdlib_module_names)


def requirements(name: str = 'requirements.txt') -> dict[str, set[str]]:
    """Return the pinned versions of each package that a requirements file names."""
    pins: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line := line.split('#')[0].strip():
            pin = re.fullmatch(r'([\w.-]+)==([\w.]+)(\s*;.*)?', line)
            assert pin, f'{name}: {line!r} is not a pinned package'
            pins.setdefault(pin[1], set()).add(pin[2])
    return pins


def manifest(folder: Path = ROOT) -> ElementTree.Element:
    return ElementTree.parse(folder / 'package.xml').getroot()


def exec_keys() -> set[str]:
    return {e.text for e in manifest() if e.tag in ('depend', 'exec_depend')}


def contents(root: Path, folders: tuple[str, ...]) -> dict[str, bytes]:
    """Return all files of some folders below `root`."""
    found = {p.relative_to(root).as_posix(): p.read_bytes() for folder in folders for p in (root / folder).rglob('*')
             if p.is_file() and '__pycache__' not in p.parts}
    assert found
    return found


@pytest.fixture(scope='module')
def distribution() -> Any:
    """What setup.py and setup.cfg tell setuptools."""
    importlib.import_module('setuptools')  # brings distutils, which Python 3.12 no longer has
    run_setup = importlib.import_module('distutils.core').run_setup
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return run_setup('setup.py', stop_after='config')


@pytest.fixture(scope='module')
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment into which a wheel of the repository was installed, without its dependencies."""
    folder = tmp_path_factory.mktemp('wheel')
    copy = folder / 'source'
    for part in (*FOLDERS, *SHARED, 'resource'):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns('__pycache__'))
    for part in ('setup.py', 'setup.cfg', 'pyproject.toml', 'package.xml'):
        shutil.copy(ROOT / part, copy)
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    subprocess.run([*pip, 'wheel', '--no-deps', '--no-index', '--no-build-isolation', '-w', folder, copy],
                   check=True, timeout=120)
    venv.create(folder / 'env', symlinks=True)
    (wheel,) = folder.glob('*.whl')
    subprocess.run([*pip, '--python', folder / 'env' / 'bin' / 'python', 'install', '--no-deps', '--no-index', wheel],
                   check=True, timeout=120)
    return folder / 'env'


@pytest.mark.parametrize('folder', [ROOT, ROOT / 'lingbot_va_msgs'], ids=lambda p: p.name)
def test_manifest_is_format_3_with_what_rosdep_and_colcon_read(folder):
    package = manifest(folder)
    assert package.get('format') == '3'
    assert package.findtext('license') == 'Apache-2.0'
    assert re.fullmatch(r'\S+@\S+\.\S+', package.find('maintainer').get('email'))
    assert package.findtext('export/build_type') == ('ament_python' if folder == ROOT else 'ament_cmake')
    keys = [(e.tag, e.text) for e in package if e.tag.endswith('depend')]
    assert len(keys) == len(set(keys))


def test_both_packages_have_one_version(distribution):
    import lingbot_va_core

    pyproject = (ROOT / 'lingbot_va_msgs' / 'pyproject.toml').read_text()
    versions = {manifest().findtext('version'), manifest(ROOT / 'lingbot_va_msgs').findtext('version'),
                distribution.get_version(), lingbot_va_core.__version__,
                re.search(r"^version = '(.*)'", pyproject, re.MULTILINE)[1]}
    assert len(versions) == 1


@pytest.mark.parametrize('folder', FOLDERS)
def test_every_import_is_declared_for_both_environments(folder):
    pins, keys, ros_pins = requirements(), exec_keys(), {**requirements(ROS), **requirements(ROS_DATA)}
    missing = []
    for module in sorted(imports(folder)):
        if module in OPTIONAL:
            continue
        pip, key = THIRD_PARTY.get(module, (f'ros-jazzy-{module.replace("_", "-")}', module))
        if pip and pip not in pins:
            missing.append(f'{module}: {pip} in requirements.txt')
        if key and key not in keys:
            missing.append(f'{module}: {key} in package.xml')
        if (not key or key.endswith('-pip')) and pip not in ros_pins:
            missing.append(f'{module}: {pip} in {ROS}')
    assert missing == []


def test_a_ros_machine_gets_versions_that_the_pip_environment_has():
    pins = requirements()
    ros_pins = {**requirements(ROS), **requirements(ROS_DATA)}
    assert ros_pins.pop('numpy') == {'1.26.4'}  # that of the distributions, for which their cv_bridge was compiled
    assert [name for name, versions in ros_pins.items() if not versions <= pins.get(name, set())] == []


@pytest.mark.parametrize(('module', 'source'), OPTIONAL.items())
def test_optional_imports_are_pinned_documented_and_inside_functions(module, source):
    package, file = source
    assert package in requirements(file)
    assert file in (ROOT / 'docs' / 'dependencies.md').read_text()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob('*.py'):
            top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
            names = {alias.name for node in top for alias in node.names} | {getattr(node, 'module', '') for node in top}
            assert not any((name or '').split('.')[0] == module for name in names), path


@pytest.mark.parametrize('name', [f'requirements{part}.txt' for part in ('', '-dev', '-docs', '-view')])
def test_documented_versions_are_the_pinned_ones(name):
    rows = dict(re.findall(r'^\| (\S+) \| (\d[^|]*) \|', (ROOT / 'docs' / 'dependencies.md').read_text(), re.MULTILINE))
    pins = requirements(name)
    documented = {n: set(re.findall(r'\d+\.\d+\.\d[\w.]*', rows[n])) for n in pins if n in rows}
    assert documented == pins


def test_messages_need_nothing_that_requirements_leave_out():
    pyproject = (ROOT / 'lingbot_va_msgs' / 'pyproject.toml').read_text()
    needed = re.search(r'^dependencies = \[(.*)\]', pyproject, re.MULTILINE)[1]
    assert set(re.findall(r"'([^']+)'", needed)) <= set(requirements())


def test_every_script_leads_to_a_function(distribution):
    scripts = distribution.entry_points['console_scripts']
    assert len(scripts) == 6
    for script in scripts:
        module, function = script.split('=')[1].strip().split(':')
        assert callable(getattr(importlib.import_module(module), function)), script


def test_requirements_of_the_distribution_cannot_break_a_script_on_a_ros_machine(distribution):
    assert distribution.install_requires == ['setuptools']


def test_wheel_carries_all_packages_and_shared_files(installed):
    source = installed.parent / 'source'
    (site,) = installed.glob('lib/python3*/site-packages')
    assert contents(site, FOLDERS) == contents(source, FOLDERS)
    assert contents(installed / 'share' / 'lingbot_va', SHARED) == contents(source, SHARED)


def test_installed_package_is_in_the_ament_index(installed):
    assert (installed / 'share/ament_index/resource_index/packages/lingbot_va').is_file()
    assert (installed / 'share/lingbot_va/package.xml').read_bytes() == (ROOT / 'package.xml').read_bytes()


def test_installed_code_finds_its_shared_files(installed, tmp_path):
    script = 'from lingbot_va_core.resources import share_dir; print(share_dir())'
    done = subprocess.run([installed / 'bin' / 'python', '-c', script], cwd=tmp_path, env={}, text=True,
                          capture_output=True, timeout=60, check=True)
    assert Path(done.stdout.strip()) == installed / 'share' / 'lingbot_va'


def test_scripts_are_installed_where_they_are_looked_for(installed, distribution):
    names = {script.split('=')[0].strip() for script in distribution.entry_points['console_scripts']}
    assert names <= {p.name for p in (installed / 'bin').iterdir()}
    assert distribution.get_option_dict('install')['install_scripts'][1] == '$base/lib/lingbot_va'
