"""The service on a cluster: what was confirmed outlives a primary, and what was sent is sent once.

The long run is `python -m tests.crash.soak --cluster` (service/docs/high-availability.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.nodes import require_patroni
from tests.crash.soak import NOTHING_UNCONSENTED, Result, soak_on_cluster
from tests.crash.soak_options import Options

pytestmark = [pytest.mark.anyio, pytest.mark.cluster]
Record = Callable[[str, object], None]


@pytest.fixture(scope="module", autouse=True)
def patroni() -> None:
    """Everything here needs it."""
    require_patroni()


async def run(options: Options, folder: Path, record_property: Record) -> tuple[Result, str]:
    result = await soak_on_cluster(options, folder)
    table = "\n".join(result.lines())
    print(table)  # noqa: T201  # shown with -s, and when it fails
    record_property("soak", table)
    return result, table


@pytest.mark.parametrize(
    ("door", "acts"), [("keep", ("freeze", "stall and kill")), ("drop", ("kill", "cut", "switchover"))]
)
async def test_a_synchronous_cluster_loses_nothing_and_pays_nothing_twice(
    door: str, acts: tuple[str, ...], tmp_path: Path, record_property: Record
) -> None:
    options = Options(videos=60, rows=20, processes=2, minutes=8, cluster=True, door=door, acts=acts)
    result, table = await run(options, tmp_path, record_property)
    assert result.passed, table
    assert result.audited.endswith(NOTHING_UNCONSENTED), table
    assert result.confirmed > 60
    assert result.accounts.creates > 40
    assert result.did["door: another primary"] >= 2


async def test_an_asynchronous_cluster_loses_commits(tmp_path: Path, record_property: Record) -> None:
    """The control: the same judge finds something where there is something to be found."""
    options = Options(videos=200, rows=0, processes=2, minutes=8, cluster=True, asynchronous=True)
    result, table = await run(options, tmp_path, record_property)
    assert not result.passed, table
    assert result.commits_lost, table
    assert result.did["resumed blindly"], "a worker missed its submissions, and paused everything"
