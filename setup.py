"""Builds lingbot_va with colcon as well as with pip."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'lingbot_va'


def shared_files(folder: str) -> list[tuple[str, list[str]]]:
    """Return what setuptools calls data_files: all of `folder`, to be installed below share/lingbot_va."""
    files = [p for p in sorted(Path(folder).rglob('*')) if p.is_file() and '__pycache__' not in p.parts]
    return [(f'share/{PACKAGE}/{parent}', [str(p) for p in files if p.parent == parent])
            for parent in sorted({p.parent for p in files})]


setup(
    name=PACKAGE,
    version='0.1.0',
    description='Deploys the LingBot-VA world-action model on bimanual robots',
    maintainer='lingbot_va developers',
    maintainer_email='lingbot-va@example.com',
    license='Apache-2.0',
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['lingbot_va_core*', 'lingbot_va_sim*', 'lingbot_va_ros*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        *shared_files('config'),
        *shared_files('launch'),
        *shared_files('tools'),
        *shared_files('checkpoints'),
    ],
    # On a ROS machine rclpy and others are no pip packages, and a requirement that pip does not know of would break the
    # executables. requirements.txt (pip) and package.xml (rosdep) name the dependencies.
    install_requires=['setuptools'],
    extras_require={'test': ['pytest']},  # by which colcon knows how to test
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'lingbot-va = lingbot_va_ros.cli:main',
            'perception = lingbot_va_ros.perception_node:main',
            'world_model = lingbot_va_ros.world_model_node:main',
            'action = lingbot_va_ros.action_node:main',
            'sim_bridge = lingbot_va_ros.sim_bridge_node:main',
            'recorder = lingbot_va_ros.recorder:main',
        ],
    },
)
