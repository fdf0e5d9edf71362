"""The real `lingbot-va` with probes in the node table, so that tests can say how nodes behave."""

import sys

from lingbot_va_ros import node_table
from lingbot_va_ros.cli import main

node_table.NODES = tuple(
    node_table.NodeSpec(name, '', 'lifecycle_probe', order) for order, name in enumerate(('first', 'second'))
)

if __name__ == '__main__':
    sys.exit(main())
