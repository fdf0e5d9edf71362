"""Quality of service of every topic, after REP 2003: sensors best effort, commands reliable and shallow."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data

SENSOR = qos_profile_sensor_data
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TRAJECTORY = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
OPERATOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# How an emergency stop is heard: a press must not be overwritten by the release that follows it.
PRESSES = QoSProfile(depth=32, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_PRESSES = QoSProfile(
    depth=32, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
CHUNK = QoSProfile(depth=4, reliability=ReliabilityPolicy.RELIABLE)
COMMAND = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
STREAM = QoSProfile(depth=16, reliability=ReliabilityPolicy.RELIABLE)
# As nodes that follow simulation time hear it; simulators differ in what they offer.
SIMULATION_CLOCK = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
DIAGNOSTICS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
