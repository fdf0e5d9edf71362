"""Another DDS implementation, which knows nothing of ROS, reads the same commands as ROS does."""

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from action_stage import PROFILE, Stage, chunk_of, ramp
from support import wait_until
from trajectory_msgs.msg import JointTrajectory

from lingbot_va_msgs.msg import ActionState, DualArmCommand

cyclonedds = pytest.importorskip('cyclonedds', reason='cyclonedds, the second DDS, is not installed')

# Discovery as ROS does it for LOCALHOST: no multicast, peers on the loopback interface.
CONFIGURATION = """
<CycloneDDS><Domain>
  <General>
    <Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces>
    <AllowMulticast>false</AllowMulticast>
  </General>
  <Discovery>
    <ParticipantIndex>auto</ParticipantIndex>
    <MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>
    <Peers><Peer address="127.0.0.1"/></Peers>
  </Discovery>
</Domain></CycloneDDS>
"""


class Listener:
    """Reads topics with Cyclone DDS in a thread."""

    def __init__(self, topics: dict[str, type]) -> None:
        from cyclonedds.core import Policy, Qos
        from cyclonedds.domain import Domain, DomainParticipant
        from cyclonedds.sub import DataReader
        from cyclonedds.topic import Topic
        from cyclonedds.util import duration
        from dds_types import dds_type

        number = int(os.environ['ROS_DOMAIN_ID'])
        self._domain = Domain(number, CONFIGURATION)
        participant = DomainParticipant(number)
        reliable = Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.History.KeepLast(200))
        self.received: dict[str, list[Any]] = {topic: [] for topic in topics}
        self._readers = {
            topic: DataReader(participant, Topic(participant, f'rt/{topic}', dds_type(kind)), qos=reliable)
            for topic, kind in topics.items()
        }
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stopping.wait(0.005):
            for topic, reader in self._readers.items():
                self.received[topic] += reader.take(200)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener({'command': DualArmCommand, PROFILE.arms[0].output.topic: JointTrajectory})
    yield listener
    listener.close()


def test_commands_and_trajectories_are_the_same_for_both(stage: Stage, listener: Listener) -> None:
    topic = PROFILE.arms[0].output.topic
    wait_until(lambda: listener.received['command'] and listener.received[topic], what='both topics in Cyclone DDS')
    stage.begin()
    stage.send(chunk_of(ramp(0.5, 2)))
    stage.wait_for_state(ActionState.MOVING)
    stage.graph.wait_for(lambda: len(stage.executed) == 2, what='the end of the motion')
    newest = stage.commands[-1].header.stamp

    def caught_up() -> bool:
        stamp = listener.received['command'][-1].header.stamp
        return (stamp.sec, stamp.nanosec) >= (newest.sec, newest.nanosec)

    wait_until(caught_up, what='the newest command')

    ours = {(c.header.stamp.sec, c.header.stamp.nanosec): c for c in stage.commands}
    both = [(theirs, ours.get((theirs.header.stamp.sec, theirs.header.stamp.nanosec))) for theirs in
            listener.received['command']]  # fmt: skip
    both = [(theirs, known) for theirs, known in both if known is not None]
    assert len(both) > 20
    assert any(theirs.action_index >= 0 for theirs, _ in both), 'some of them move'
    for theirs, known in both:
        assert list(theirs.values) == known.values.tolist()
        assert list(theirs.mask) == list(known.mask)
        fields = ('episode', 'chunk', 'action_index', 'limited', 'limits')
        assert [getattr(theirs, name) for name in fields] == [getattr(known, name) for name in fields]
        assert list(theirs.limited_channels) == list(known.limited_channels)

    trajectories = {tuple(m.points[0].positions): m for m in stage.trajectories}
    shared = [(m, trajectories[tuple(m.points[0].positions)]) for m in listener.received[topic]
              if tuple(m.points[0].positions) in trajectories]  # fmt: skip
    assert len({tuple(m.points[0].positions) for m, _ in shared}) > 5
    assert shared[0][0].joint_names == [joint.name for joint in PROFILE.arms[0].joints]
    assert len(shared[0][0].points) == len(shared[0][1].points)
