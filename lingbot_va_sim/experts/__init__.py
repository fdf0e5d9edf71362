"""Scripted experts: who solves a task by knowing where everything is."""

from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.experts.expert import Expert
from lingbot_va_sim.experts.hand_over import HandOverExpert
from lingbot_va_sim.experts.insertion import InsertionExpert
from lingbot_va_sim.experts.transfer_cube import TransferCubeExpert

EXPERTS: dict[tuple[str, str], type[Expert]] = {
    ('aloha', 'transfer_cube'): TransferCubeExpert,
    ('aloha', 'insertion'): InsertionExpert,
    ('openarm', 'hand_over'): HandOverExpert,
}


def find_expert(robot: str, task: str) -> type[Expert]:
    """Return the expert of a robot's task, or raise SimulationError with the tasks that have one."""
    if (robot, task) not in EXPERTS:
        known = ', '.join(f'{task} of {robot}' for robot, task in EXPERTS)
        raise SimulationError(f'there is no scripted expert for {task} of {robot}; there are experts for {known}')
    return EXPERTS[robot, task]
