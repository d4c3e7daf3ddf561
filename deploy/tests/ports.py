"""Ports for programs that are told where to listen."""

import contextlib
import random
import socket

# Below those that Linux gives to whoever connects (ip_local_port_range), so that no client takes one before its program does.
RANGE = range(15_000, 32_000)
_given = set()


def free_ports(count):
    """Ports that nobody has, and that are given to nobody else here."""
    ports = []
    while len(ports) < count:
        port = random.choice(RANGE)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given.add(port)
            ports.append(port)
    return ports
