"""The policy server: the wire protocol of the released one, for clients that have no ROS."""
