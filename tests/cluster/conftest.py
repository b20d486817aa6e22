"""Tests on a cluster need Patroni, and the machine for themselves."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.nodes import has_patroni

MISSING = "needs Patroni, on Linux: run `pip install -e '.[dev,ha]'`"


@pytest.fixture(scope="module", autouse=True)
def patroni() -> Iterator[None]:
    """Patroni is there, and no other test has a cluster: a second one would take from its leases the time they need."""
    if not has_patroni():
        pytest.skip(MISSING)
    with (Path(tempfile.gettempdir()) / f"taxiway-cluster-{os.geteuid()}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
