"""The service on a cluster: what was confirmed outlives a primary, and what was sent is sent once.

One soak has each kind of trouble once. With `CLUSTER=full` there are two, one for each kind of door, and more trouble.
The long run is `python -m tests.crash.soak --cluster` (service/docs/high-availability.md).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cluster.moments import Record, run_soak
from tests.cluster.nodes import Cluster
from tests.cluster.trouble import ACTS
from tests.crash.soak_options import Options

pytestmark = [pytest.mark.anyio, pytest.mark.cluster]


# The other tests have doors that drop their sessions, at a switchover and when a primary dies.
SOAKS: list[tuple[str, tuple[str, ...]]] = [("keep", ("freeze", "stall and kill", "cut", "kill", "switchover"))]
if os.environ.get("CLUSTER") == "full":
    SOAKS = [("keep", ACTS), ("drop", ACTS)]


@pytest.mark.parametrize(("door", "acts"), SOAKS)
async def test_a_synchronous_cluster_loses_nothing_and_pays_nothing_twice(
    strict: Cluster, door: str, acts: tuple[str, ...], tmp_path: Path, record_property: Record
) -> None:
    options = Options(videos=60, rows=20, processes=2, minutes=8, window=2.0, cluster=True, door=door, acts=acts)
    result, table = await run_soak(strict, options, tmp_path, record_property)
    assert result.passed, table
    assert result.confirmed > 60
    assert result.accounts.creates > 40
    assert result.did["door: another primary"] >= 4
