"""What each of PostgreSQL's errors means, and that a database which takes no connections is waited for."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from service.errors import DatabaseUnavailable, NotConfigured, StatementRefused
from service.store.driver_errors import (
    Meaning,
    is_refusal,
    is_unreachable,
    is_wide,
    meaning,
    sqlstate,
    translated,
    translation,
)
from service.worker import Stop, work_forever
from tests.database import connected, renamed
from tests.world import IMAGE, World


def error(code: str, words: str = "words") -> asyncpg.PostgresError:
    """As asyncpg makes it of what the server sends."""
    made: asyncpg.PostgresError = asyncpg.PostgresError.new({"C": code, "M": words})
    return made


FILTER = {"filter": {"status": ["queued"]}}
UNREACHABLE = [
    "08000",
    "08006",
    "57014",
    "57P01",
    "57P02",
    "57P03",
    "57P04",
    "57P05",
    "53300",
    "55000",
    "25006",
    "28000",
    "28P01",
    "3D000",
]
FOR_NOW = ["40001", "40P01", "55P03", "53100", "53200", "53400", "58000", "58030", "F0000", "XX000", "XX001"]
REFUSED = [
    "22001",
    "22003",
    "22021",
    "22P02",
    "22P05",
    "23502",
    "23503",
    "23505",
    "23514",
    "P0001",
    "P0002",
    "54000",
    "54001",
    "44000",
    "09000",
    "AB123",
]
NOT_CONFIGURED = ["42P01", "42703", "3F000", "42501"]
DEFECT = ["42601", "42883", "42804", "0A000", "21000", "25001", "25P02", "26000", "34000"]


@pytest.mark.parametrize(
    ("code", "means"),
    [
        (code, means)
        for codes, means in (
            (UNREACHABLE, Meaning.UNREACHABLE), (FOR_NOW, Meaning.FOR_NOW), (REFUSED, Meaning.REFUSED),
            (NOT_CONFIGURED, Meaning.NOT_CONFIGURED), (DEFECT, Meaning.DEFECT),
        )
        for code in codes
    ],
)  # fmt: skip
def test_each_code_has_one_meaning_before_and_after_it_is_translated(code: str, means: Meaning) -> None:
    exc = error(code)
    with pytest.raises(Exception) as caught, translated:
        raise exc
    for one in (exc, caught.value):
        assert (meaning(one), sqlstate(one)) == (means, code)
        assert is_unreachable(one) is (means is Meaning.UNREACHABLE)
        assert is_refusal(one) is (means is not Meaning.UNREACHABLE)
    expected = {
        Meaning.UNREACHABLE: DatabaseUnavailable,
        Meaning.FOR_NOW: StatementRefused,
        Meaning.NOT_CONFIGURED: NotConfigured,
    }
    assert type(caught.value) is expected.get(means, type(exc))


@pytest.mark.parametrize(
    "exc", [OSError("no route"), TimeoutError(), ConnectionResetError(), asyncpg.InterfaceError("closed")]
)
def test_what_is_no_answer_is_unreachable(exc: Exception) -> None:
    meant = translation(exc)
    assert type(meant) is DatabaseUnavailable
    meant.__cause__ = exc
    assert is_unreachable(exc)
    assert is_unreachable(meant)
    assert not is_refusal(meant)


def test_what_is_not_postgresqls_is_nobody_elses() -> None:
    exc = asyncpg.exceptions._base.DataError("invalid input for query argument $1")
    assert translation(exc) is exc
    assert meaning(exc) is meaning(RuntimeError()) is Meaning.DEFECT
    assert not is_refusal(RuntimeError())
    assert meaning(NotConfigured("set DATABASE_URL")) is Meaning.NOT_CONFIGURED
    assert not is_refusal(NotConfigured("set DATABASE_URL"))


def test_a_missing_right_says_what_to_grant_and_a_missing_table_what_to_run() -> None:
    granted, migrated = (
        str(translation(error("42501", "permission denied for table videos"))),
        translation(error("42P01")),
    )
    assert "permission denied for table videos. GRANT it to the role of DATABASE_URL" in granted
    assert "run `taxiway migrate`" in str(migrated)


@pytest.mark.parametrize(("code", "wide"), [("53100", True), ("42501", True), ("XX000", True), ("P0001", False)])
def test_which_refusals_are_rather_the_servers(code: str, wide: bool) -> None:
    assert is_wide(error(code)) is wide


@pytest.mark.anyio
async def test_a_database_that_takes_no_connections_is_waited_for(w: World, server_url: str) -> None:
    name = w.url.partition("?")[0].rpartition("/")[2]
    await w.enqueue()
    stop = Stop()
    working = asyncio.create_task(work_forever(w.ctx, every=0.05, stop=stop))
    async with connected(renamed(server_url, "postgres")) as admin:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        try:
            for method, path in (
                ("GET", "/videos"), ("GET", "/health"), ("GET", "/health/ready"), ("GET", "/models"),
                ("POST", "/videos"), ("POST", "/bulk/cancel"),
            ):  # fmt: skip
                body = {"input": {"promptText": "a boat", "promptImage": IMAGE}} if path == "/videos" else FILTER
                answer = await w.api.request(method, path, json=body if method == "POST" else None)
                assert answer.status_code == 503, (path, answer.text)
            assert (await w.cron.post("/process-queued")).status_code == 503
            assert not working.done()
        finally:
            await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert (await w.api.get("/videos")).status_code == 200
    stop.set()
    await working
    await w.finish()
