"""The ports of tests' processes: no two of pytest's processes share one, and none that is taken is given out."""

from __future__ import annotations

import socket
from itertools import chain

import pytest

from tests import ports


def test_each_of_pytests_processes_has_ports_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("", *(f"gw{number}" for number in range(ports.SLICES - 1))):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", name)
        found.append(ports._own_ports())
    assert sorted(chain.from_iterable(found)) == list(range(ports.FIRST, ports.LAST))


def test_a_port_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", ports.free_port())) as listener:
        taken = listener.getsockname()[1]
        other = ports.free_port()
        monkeypatch.setattr(ports, "_turns", iter([taken, other]))
        assert ports.free_port() == other
        monkeypatch.setattr(ports, "_PORTS", [taken])
        monkeypatch.setattr(ports, "_turns", iter([taken]))
        with pytest.raises(OSError, match="none is free"):
            ports.free_port()
