"""Which model drives a graph, for those who read its recordings: asked from the world model node while it runs."""

import os
import threading
from pathlib import Path

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from lingbot_va_core.checkpoint_digest import checkpoint_digest

NODE = 'world_model'
PARAMETERS = (
    'preset',
    'chosen_checkpoint',
    'model_seed',
    'device',
    'dtype',
    'torch_threads',
    'mode',
    'noise_seed',
    'use_sim_time',
)
WEIGHTS = 'weights_sha256'
NICENESS = 19


class ModelNotes:
    """Asks the world model for its parameters once it is there, without waiting, and hashes its checkpoint beside."""

    def __init__(self, node: Node) -> None:
        self._client = node.create_client(GetParameters, f'{NODE}/get_parameters')
        self._answer = None
        self._asked = False
        self._digests: list[str] = []

    def poll(self) -> dict[str, str]:
        """Return what has become known since the last call: parameters as text, and `weights_sha256`."""
        known = {WEIGHTS: self._digests.pop()} if self._digests else {}
        if not self._asked and self._client.service_is_ready():
            self._asked = True
            self._answer = self._client.call_async(GetParameters.Request(names=list(PARAMETERS)))
        if self._answer is not None and self._answer.done():
            values = map(parameter_value_to_python, self._answer.result().values)
            known |= {name: str(value) for name, value in zip(PARAMETERS, values, strict=False) if value is not None}
            self._answer = None
            known['checkpoint'] = known.pop('chosen_checkpoint', '')
            folder = Path(known['checkpoint'] or os.devnull)
            if folder.is_dir():  # else it is of the Hub, or there is none
                known['checkpoint'] = str(folder.absolute())
                threading.Thread(target=self._hash, args=(folder,), name='checkpoint digest', daemon=True).start()
        return known

    def _hash(self, folder: Path) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)  # a thread has its own on Linux
        try:
            self._digests.append(checkpoint_digest(folder))
        except OSError:
            return  # the checkpoint was moved; then the bag does not say which one it was
