"""Tests on a cluster need Patroni, and the machine for themselves."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cluster.nodes import Cluster, Options, cluster, has_patroni

LIMIT_SECONDS = 1_800.0  # for all of these tests, on a busy machine
MISSING = "needs Patroni, on Linux: run `pip install -e '.[dev,ha]'`"


@pytest.fixture(scope="package", autouse=True)
def patroni() -> Iterator[None]:
    """Patroni is there, and no other process has a cluster: a second one would take the time that its leases need."""
    if not has_patroni():
        pytest.skip(MISSING)
    with (Path(tempfile.gettempdir()) / f"taxiway-cluster-{os.geteuid()}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def no_task_left() -> None:
    """The proxies of a cluster serve several tests, and so do the tasks of their connections."""


@pytest.fixture(scope="package")
async def strict(patroni: None) -> AsyncIterator[Cluster]:
    """A cluster whose commits wait for a standby."""
    async with cluster(Options(limit_seconds=LIMIT_SECONDS)) as made:
        yield made


@pytest.fixture(scope="module")
async def asynchronous(strict: Cluster) -> AsyncIterator[Cluster]:
    """The same while its commits wait for no standby: to make another takes as long as a failover."""
    await strict.wait_for_standbys(False)
    yield strict
    await strict.wait_for_standbys(True)
