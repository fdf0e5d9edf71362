"""The nodes of the graph: what the launch files and the pip bring-up start, and in which order."""

from dataclasses import dataclass

RESPAWN_WINDOW_S = 300.0


@dataclass(frozen=True)
class NodeSpec:
    """A lifecycle node in a process of its own.

    Attributes:
        name: ROS name; its parameters are under `/**/<name>` in `config/lingbot_va.yaml`.
        executable: console script, which `ros2 run` and launch files start.
        module: Python module with the same `main`, which the pip bring-up starts.
        order: nodes become active from the lowest to the highest and end in reverse.
        required: the graph ends when this node does.
        respawns: how often within RESPAWN_WINDOW_S it is started again first, once the graph was active.
        simulation_only: not started beside a real robot.
        nice: added to the niceness of its process; what ticks at the control rate has 0.
        dds_profile: file in `config/` for its DDS, unless the user has named another.
    """

    name: str
    executable: str
    module: str
    order: int
    required: bool = True
    respawns: int = 0
    simulation_only: bool = False
    nice: int = 0
    dds_profile: str = 'fastdds.xml'


NODES = (
    NodeSpec('sim_bridge', 'sim_bridge', 'lingbot_va_ros.sim_bridge_node', order=0, simulation_only=True),
    # Before all that can move the arms: it reads the measured state and holds it.
    NodeSpec('action', 'action', 'lingbot_va_ros.action_node', order=1, dds_profile='fastdds_udp.xml'),
    # Without it the arms hold, and the world model begins again with the first latent frame that comes.
    NodeSpec('perception', 'perception', 'lingbot_va_ros.perception_node', order=2, respawns=3, nice=5),
    NodeSpec('world_model', 'world_model', 'lingbot_va_ros.world_model_node', order=3, nice=10),
)


@dataclass(frozen=True)
class LaunchArgument:
    """What a launch file lets a deployment set; an empty value leaves it to the parameter files."""

    name: str
    description: str
    default: str = ''
    simulation_only: bool = False


LAUNCH_ARGUMENTS = (
    LaunchArgument('namespace', 'Namespace of all nodes.'),
    LaunchArgument('use_sim_time', 'Follow /clock; empty: as in the parameter files.'),
    LaunchArgument('params_file', 'Parameter file above config/lingbot_va.yaml.'),
    LaunchArgument('robot', 'Robot profile, a name in config/robots or a YAML file; empty: as in the parameter files.'),
    LaunchArgument('task', 'Task of the simulation; empty: as in the parameter files.', simulation_only=True),
    LaunchArgument('autostart', 'Bring the nodes to active, in order; false: only start.', default='true'),
    LaunchArgument('log_level', 'Log level of the nodes.', default='info'),
)


def launch_arguments(simulation: bool) -> tuple[LaunchArgument, ...]:
    """Return the arguments of a simulated or a real graph's launch file."""
    return tuple(argument for argument in LAUNCH_ARGUMENTS if simulation or not argument.simulation_only)


def nodes(simulation: bool) -> tuple[NodeSpec, ...]:
    """Return the nodes of a simulated or a real graph in the order in which they become active."""
    chosen = [spec for spec in NODES if simulation or not spec.simulation_only]
    return tuple(sorted(chosen, key=lambda spec: spec.order))
