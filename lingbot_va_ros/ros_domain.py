"""A ROS domain that nobody else on this machine uses."""

import random
import socket

DOMAINS = range(1, 101)  # above that the ports can collide with ephemeral ones
PORT_BASE, PORTS_PER_DOMAIN = 7400, 250  # RTPS 2.5, section 9.6.2.3: discovery's multicast port of domain d


def free_domain() -> int:
    """Return a domain in which no participant runs now: its discovery port can be bound.

    Raises:
        OSError: all are taken.
    """
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', PORT_BASE + PORTS_PER_DOMAIN * domain))
            except OSError:
                continue
        return domain
    raise OSError('every ROS domain from 1 to 100 is in use; end some graphs or set ROS_DOMAIN_ID')
