"""The nodes of the graph: what the launch files and the pip bring-up start, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class NodeSpec:
    """A lifecycle node in a process of its own.

    Attributes:
        name: ROS name; its parameters are under `/**/<name>` in `config/lingbot_va.yaml`.
        executable: console script, which `ros2 run` and launch files start.
        module: Python module with the same `main`, which the pip bring-up starts.
        order: nodes become active from the lowest to the highest and end in reverse.
        required: the graph ends when this node does.
        respawns: how often within `respawns.WINDOW_S` it is started again first, once the graph was active.
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


def nodes(simulation: bool, only: Sequence[str] = ()) -> tuple[NodeSpec, ...]:
    """Return the nodes of a simulated or a real graph in the order in which they become active.

    `only` names those that run on this machine; none: all.

    Raises:
        ValueError: `only` names one that the graph does not have.
    """
    chosen = {spec.name: spec for spec in NODES if simulation or not spec.simulation_only}
    for name in only:
        if name not in chosen:
            raise ValueError(f"there is no node '{name}' in this graph; it has {', '.join(chosen)}")
    return tuple(sorted((chosen[name] for name in only or chosen), key=lambda spec: spec.order))
