"""Ports of the loopback for the processes that tests start."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from itertools import cycle, islice

# Below the ports that a system gives out by itself (from 32768 on Linux, 49152 on macOS), and above the last that a
# browser refuses: between the choice of a port and the moment at which its process listens there, nobody else takes it.
FIRST, LAST = 12_000, 32_000
# pytest's processes run side by side: each has ports of its own. Two runs at once begin at different places.
SLICES = 20


def _own_ports() -> list[int]:
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    number = int(name.removeprefix("gw")) + 1 if name else 0
    mine = range(FIRST + number % SLICES, LAST, SLICES)
    start = random.randrange(len(mine))
    return [*mine[start:], *mine[:start]]


_PORTS = _own_ports()
_turns = cycle(_PORTS)


def free_port() -> int:
    """The next on which nothing listens; none is given out twice before all the others. Raises OSError without one."""
    for port in islice(_turns, len(_PORTS)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError(f"of the ports from {FIRST} to {LAST} none is free")
