"""Ports for programs that are told where to listen."""

import contextlib
import os
import random
import socket

# Below Linux's range for outgoing connections (ip_local_port_range), so that no client takes a port before its program does.
# Up to four processes that run tests at the same time use different ones.
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
RANGE = range(15_000, 32_000)[_process % 4 :: 4]
_given = set()


def free_ports(count):
    """Returns free ports, each of them only once."""
    ports = []
    while len(ports) < count:
        port = random.choice(RANGE)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given.add(port)
            ports.append(port)
    return ports
