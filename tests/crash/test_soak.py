"""A short soak, through the same code as the long one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.soak import FILMS_SEEN, server, soak
from tests.crash.soak_options import Options
from tests.database import connected

pytestmark = [pytest.mark.anyio, pytest.mark.crash]


async def test_a_server_of_its_own_lasts_as_long_as_the_soak(tmp_path: Path) -> None:
    async with server(Options(), tmp_path) as url, connected(url) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    with pytest.raises(OSError):  # which one depends on the system
        async with connected(url):
            pass


async def test_a_short_soak_loses_nothing_and_pays_nothing_twice(
    database_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    options = Options(videos=60, rows=60, seed=7, processes=2, minutes=4, window=2.0)
    result = await soak(options, tmp_path, database_url)
    table = "\n".join(result.lines())
    print(table)  # noqa: T201  # shown with -s, and when it fails
    record_property("soak", table)
    assert result.passed, table
    did = Counter(result.did)
    assert result.accounts.creates > 40
    assert did["kill -9"] > 3
    assert result.films.charges > 20
    assert result.accounts.errors["REFUSED_BY_TABLE"]  # that of the last film, whoever was fast
    assert did[FILMS_SEEN] > 10
    assert did["answers given twice"] > 3
    assert did["waited for"] > 3
    # A worker may always have been there first; that a GET submits, killed at any step, the matrix shows.
    assert did["asked for"] + did["asked for, and submitted"] > 3
    assert did["webhooks accepted"] > 50
    assert did["webhooks refused"] > 10
