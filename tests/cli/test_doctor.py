"""What `taxiway doctor` says of installations that are well, empty, or ill in every way it knows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio.to_thread
import asyncpg
import httpx
import pytest
from typer.testing import CliRunner, Result

from service.__main__ import cli
from service.app import create_app
from service.context import Context, build
from service.doctor import storage
from service.doctor.checks import Check, CheckStatus, as_table, settings
from service.doctor.public import reachable
from service.doctor.queue import cron, queue
from service.doctor.report import installation, run_checks
from service.env_parsing import RUNWAY_URL
from service.environment import load
from service.errors import DatabaseUnavailable, RunwayUnavailable
from service.installer import closing, history
from service.installer.grants import grant
from service.operations import rhythm
from service.runway.client import Runway
from service.settings import Settings
from service.store import doctor_queries, models
from service.store.database import Database
from service.store.url import normalise
from tests.database import connected, execute, renamed
from tests.roles import role
from tests.simulator_server import on_socket
from tests.wire import refusing_port
from tests.world import API_KEY, CALLBACK_SECRET, CRON_SECRET, RUNWAY_KEY, World, world
from tests.world import settings as complete

pytestmark = pytest.mark.anyio

WRONG_URL = "https://api.runwayml.com/v1"
COMPLETE = {
    "RUNWAYML_API_SECRET": RUNWAY_KEY, "API_KEYS": API_KEY, "CRON_SECRET": CRON_SECRET,
    "CALLBACK_SECRETS": CALLBACK_SECRET,
}  # fmt: skip
Found = dict[tuple[str, str], Check]


def by_name(checks: list[Check]) -> Found:
    """The findings by area and name, of which there is one each."""
    found = {(check.area, check.name): check for check in checks}
    assert len(found) == len(checks), checks
    return found


def states(checks: list[Check]) -> set[CheckStatus]:
    return {check.status for check in checks}


async def ask(ctx: Context, **environment: str) -> Found:
    return by_name(await run_checks(ctx, environment))


async def doctor(*arguments: str, **environment: str) -> Result:
    """The command as its own process would run it, in a thread, since it runs a loop of its own."""
    return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, ["doctor", *arguments], env=environment))


def answering(status: int, body: bytes) -> Callable[[], httpx.AsyncBaseTransport]:
    """A Runway that says this to everything."""
    return lambda: httpx.MockTransport(lambda _request: httpx.Response(status, content=body))


def keyed(**changes: Any) -> Context:
    """A context without a database."""
    return build(complete("", **({"database_url": None, "runway_url": RUNWAY_URL} | changes)))


async def runway_says(status: int, body: bytes, **changes: Any) -> Found:
    found = await ask(replace(keyed(**changes), transport=answering(status, body)))
    return {place: check for place, check in found.items() if place[0] == "Runway"}


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of the tests saves itself the disk: here it is taken for one that does not."""
    asked = doctor_queries.durability

    async def durability(database: Database) -> dict[str, Any]:
        return await asked(database) | {"fsync": "on", "full_page_writes": "on"}

    monkeypatch.setattr(doctor_queries, "durability", durability)


@pytest.mark.usefixtures("on_disk")
class TestHealthy:
    async def test_the_table_and_exit_code_0(self, database_url: str) -> None:
        async with world(database_url) as w, on_socket(w.runway) as url:
            await w.enqueue()
            await w.finish()
            result = await doctor(DATABASE_URL=database_url, RUNWAYML_BASE_URL=url, **COMPLETE)
        assert (result.exit_code, result.stderr) == (0, "")
        lines = result.stdout.splitlines()
        assert lines[0].split() == ["STATUS", "AREA", "CHECK", "MESSAGE"]
        assert lines[-1].startswith("0 errors, 0 warnings, ")
        column = lines[0].index("MESSAGE")
        assert {line[:2] + line[column - 1] for line in lines[1:-2]} == {"ok "}
        assert "error" not in "".join(lines[:-1])
        assert RUNWAY_KEY not in result.stdout

    async def test_every_area_is_looked_at(self, database_url: str) -> None:
        async with world(database_url) as w:
            await w.enqueue()
            await w.finish()
            checks = await run_checks(replace(w.ctx, now=time.time), {})
        found = by_name(checks)
        assert states(checks) == {CheckStatus.OK}
        assert list(dict.fromkeys(area for area, _ in found)) == [
            "settings", "models", "Runway", "database", "queue", "cron", "linked tables", "callbacks",
        ]  # fmt: skip
        assert found["Runway", "credits"].message == "9975 left"
        assert found["Runway", "gen4_turbo"].message == "5 at once, 1000 a day (1 made)"
        assert found["queue", "videos"].message == "1 completed"
        assert found["cron", "missed"].message.startswith("none of the last ")
        assert "password" not in found["database", "server"].message

    async def test_json_is_a_list_of_findings(self, database_url: str) -> None:
        async with world(database_url) as w, on_socket(w.runway) as url:
            result = await doctor("--json", DATABASE_URL=database_url, RUNWAYML_BASE_URL=url, **COMPLETE)
        checks = json.loads(result.stdout)
        assert result.exit_code == 0  # no tick ever ran, and nothing waits for one: a warning
        assert {tuple(check) for check in checks} == {("area", "name", "status", "message", "fix")}
        assert [check["name"] for check in checks if check["status"] != "ok"] == ["last tick"]


class TestEmpty:
    async def test_an_empty_environment(self) -> None:
        result = await doctor("--json")
        found = by_name([Check(**check) for check in json.loads(result.stdout)])
        assert result.exit_code == 1
        assert {name for (area, name) in found if area == "settings"} == {
            "DATABASE_URL", "RUNWAYML_API_SECRET", "API_KEYS", "CRON_SECRET",
        }  # fmt: skip
        for place in ("Runway", "key"), ("database", "all of it"), ("queue", "all of it"), ("cron", "all of it"):
            assert found[place].message.startswith("not checked: ")

    async def test_contradictions_are_findings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CRON_SECRET", "short")
        monkeypatch.setenv("HARD_LIMIT", "5")
        monkeypatch.setenv("DATABASE_URL", "mysql://me:Canary7@host/db")
        checks = await installation(os.environ)
        broken = [check for check in checks if check.status is CheckStatus.ERROR]
        assert {check.name for check in broken} == {"CRON_SECRET", "HARD_LIMIT", "DATABASE_URL"}
        assert all(check.fix for check in broken)
        assert by_name(checks)["database", "all of it"].message.startswith("not checked")
        assert "Canary7" not in str(checks)


class TestRootCauses:
    async def test_function_ends_with_the_response_no_tick_ever_ran(self, database_url: str) -> None:
        async with world(database_url) as w:
            await w.enqueue()
            check = (await ask(w.ctx))["cron", "last tick"]
        assert check.status is CheckStatus.ERROR
        assert "function ends with the response" in check.message
        assert "/process-queued" in check.fix

    async def test_function_ends_with_the_response_what_is_stuck(self, database_url: str) -> None:
        async with world(database_url) as w:
            await w.enqueue()
            await w.tick()
            await w.later(hours=3)
            found = await ask(w.ctx)
        assert found["queue", "stuck"].status is CheckStatus.ERROR
        assert "function ends with the response: 1 " in found["queue", "stuck"].message
        assert found["cron", "last tick"].status is CheckStatus.ERROR

    async def test_key_missing(self, database_url: str) -> None:
        result = await doctor(DATABASE_URL=database_url)
        assert result.exit_code == 1
        assert "key missing" in result.stdout

    async def test_wrong_endpoint_the_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNWAY_BASE_URL", WRONG_URL)
        [check] = [one for one in settings(load(), os.environ) if one.name == "RUNWAY_BASE_URL"]
        assert check.status is CheckStatus.WARNING
        assert "wrong endpoint" in check.message
        assert check.fix == f"set RUNWAY_BASE_URL={RUNWAY_URL}, or remove it"

    def test_wrong_endpoint_the_path(self) -> None:
        wrong = Settings(runway_url=f"{RUNWAY_URL}/v1/image-to-video")
        found = by_name(settings(wrong, {}))
        assert "wrong endpoint: /v1/image-to-video" in found["settings", "RUNWAYML_BASE_URL"].message
        assert found["settings", "RUNWAYML_BASE_URL"].status is CheckStatus.ERROR

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (404, b'{"error":"Not found"}'), (301, b""), (200, b"<!doctype html><p>Hello"), (200, b"[]"),
            (401, b'{"error":"Incorrect hostname for API key"}'), (403, b"<html>blocked</html>"),
        ],
    )  # fmt: skip
    async def test_wrong_endpoint_by_its_answer(self, status: int, body: bytes) -> None:
        found = await runway_says(status, body)
        assert found["Runway", "endpoint"].status is CheckStatus.ERROR
        assert "wrong endpoint" in found["Runway", "endpoint"].message
        assert RUNWAY_URL in found["Runway", "endpoint"].fix
        assert found["Runway", "key"].message == "not checked: wrong endpoint"

    async def test_crash_between_call_and_save(self, database_url: str) -> None:
        async with world(database_url) as w:
            w.faults("drop_after")
            await w.enqueue()
            await w.tick()
            check = (await ask(w.ctx))["queue", "unknown"]
        assert check.status is CheckStatus.WARNING
        assert check.message == (
            "1 video may have been charged (up to 25 credits, $0.25): Runway's answer was lost, "
            "as by a crash between call and save, or its task vanished, so we don't know whether it started it"
        )
        assert "taxiway attach VIDEO TASK" in check.fix

    def test_lost_answers(self) -> None:
        nothing: dict[str, Any] = {"counts": {}, "oldest_queued_seconds": None, "stuck": 0, "moderated": 0}
        report = nothing | {"unknown": 2, "unknown_credits": 50.0}
        assert by_name(queue(report))["queue", "unknown"].message == (
            "2 videos may have been charged (up to 50 credits, $0.50): Runway's answer was lost, "
            "as by a crash between call and save, or its task vanished, so we don't know whether it started them"
        )

    @pytest.mark.parametrize("failures", [2, 3])
    async def test_repeated_moderation_failures(self, w: World, failures: int) -> None:
        codes = ("SAFETY.INPUT.TEXT", "INPUT_PREPROCESSING.SAFETY.THIRD_PARTY", "SAFETY.OUTPUT.VIDEO")
        w.faults(*(f"fail={code}" for code in codes[:failures]))
        for _ in range(3):
            await w.enqueue()
        await w.finish()
        check = (await ask(w.ctx))["queue", "moderated"]
        concerns = (await w.api.get("/health")).json()["concerns"]
        assert (check.status is CheckStatus.WARNING) == (failures == 3)
        assert any("moderation" in words for words in concerns) == (failures == 3)
        await w.later(hours=2)
        assert (await ask(w.ctx))["queue", "moderated"].status is CheckStatus.OK


class TestSettings:
    @pytest.mark.parametrize(
        ("value", "quoted"),
        [
            ('"a-secret-of-24-characters"', True), ("'a-secret-of-24-characters'", True),
            ("a-secret-of-24-characters", False), ('"a-secret-of-24-characters', False), ('"', False), ("", False),
        ],
    )  # fmt: skip
    async def test_a_value_in_quotes(self, value: str, quoted: bool) -> None:
        """`docker --env-file` keeps them, and so would the secret."""
        found = by_name(settings(Settings(cron_secret=("a-secret-of-24-characters",)), {"CRON_SECRET": value}))
        check = found["settings", "CRON_SECRET"]
        assert ("quotation mark" in check.message, "remove the quotes" in check.fix) == (quoted, quoted)
        assert "secret-of" not in f"{check}"

    async def test_a_key_of_the_wrong_form_and_no_limit(self) -> None:
        loaded = Settings(runway_key="key_short", database_url="x")
        found = by_name(settings(loaded, {}))
        assert found["settings", "RUNWAYML_API_SECRET"].status is CheckStatus.WARNING
        assert "does not look like a key" in found["settings", "RUNWAYML_API_SECRET"].message
        assert found["settings", "MAX_CREDITS_PER_DAY"].fix
        assert found["settings", "DATABASE_URL"].status is CheckStatus.OK

    def test_connections_that_carry_several_creates(self) -> None:
        check = by_name(settings(Settings(submit_keepalive=True), {}))["settings", "SUBMIT_KEEPALIVE"]
        assert check.status is CheckStatus.WARNING
        assert "the film of another" in check.message
        assert check.fix.startswith("remove SUBMIT_KEEPALIVE")

    def test_two_names_of_one_setting_that_differ(self) -> None:
        given = {"RUNWAYML_API_SECRET": "one", "runway_api_key": "two", "RUNWAYML_API_KEY": "one"}
        found = by_name(settings(Settings(runway_key="one"), given))
        assert found["settings", "RUNWAY_API_KEY"].status is CheckStatus.WARNING
        assert "RUNWAYML_API_SECRET is set to something else" in found["settings", "RUNWAY_API_KEY"].message
        assert ("settings", "RUNWAYML_API_KEY") not in found


class TestRunway:
    @pytest.mark.parametrize(
        ("answered", "name", "status", "words"),
        [
            (401, "key", CheckStatus.ERROR, "key refused"), (400, "headers", CheckStatus.ERROR, "headers are refused"),
            (429, "endpoint", CheckStatus.WARNING, "busy"), (503, "endpoint", CheckStatus.WARNING, "busy"),
        ],
    )  # fmt: skip
    async def test_refusals(self, answered: int, name: str, status: CheckStatus, words: str) -> None:
        found = await runway_says(answered, b'{"error":"No, key_%s"}' % (b"0" * 128))
        assert (found["Runway", name].status, words in found["Runway", name].message) == (status, True)
        assert found["Runway", "credits"].message.startswith("not checked: ")
        assert "0000" not in str(found)

    async def test_nobody_there(self) -> None:
        with refusing_port() as url:
            elsewhere = await ask(keyed(runway_url=url))
        assert "wrong endpoint" in elsewhere["Runway", "endpoint"].message

        def away(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("no\nroute \x1b[31m", request=request)

        runway = await ask(replace(keyed(), transport=lambda: httpx.MockTransport(away)))
        assert "Runway does not answer" in runway["Runway", "endpoint"].message
        assert "no route [31m" in runway["Runway", "endpoint"].message

    @pytest.mark.parametrize(
        ("left", "status"),
        [
            ("0", CheckStatus.ERROR),
            ("119", CheckStatus.WARNING),
            ("120", CheckStatus.OK),
            ('"many"', CheckStatus.WARNING),
        ],
    )
    async def test_credits(self, left: str, status: CheckStatus) -> None:
        found = await runway_says(200, b'{"creditBalance":%s,"tier":[]}' % left.encode())
        assert found["Runway", "credits"].status is status
        assert found["Runway", "gen4_turbo"].status is CheckStatus.WARNING

    async def test_limits(self) -> None:
        body = {
            "creditBalance": 500,
            "tier": {"models": {
                "gen4_turbo": {"maxConcurrentGenerations": 1, "maxDailyGenerations": 50},
                "gen4.5": {"maxConcurrentGenerations": None, "maxDailyGenerations": None},
            }},
            "usage": {"models": {"gen4_turbo": {"dailyGenerations": 50}}},
        }  # fmt: skip
        found = await runway_says(200, json.dumps(body).encode())
        assert found["Runway", "gen4_turbo"].status is CheckStatus.WARNING
        assert found["Runway", "gen4_turbo"].message == "the day's limit is reached: 1 at once, 50 a day (50 made)"
        assert found["Runway", "gen4.5"].message == "any number at once, any number a day (0 made)"
        strange = b'{"creditBalance":500,"tier":{"models":{"gen4.5":{"maxDailyGenerations":[]}}}}'
        assert "? a day" in (await runway_says(200, strange))["Runway", "gen4.5"].message

    async def test_it_is_a_taxiway(self) -> None:
        found = await runway_says(508, b'{"error":"This is Taxiway\'s own call"}')
        assert found["Runway", "endpoint"].status is CheckStatus.ERROR
        assert "RUNWAYML_BASE_URL leads to a Taxiway, which would call itself" in found["Runway", "endpoint"].message
        assert "in your app alone" in (found["Runway", "endpoint"].fix or "")

    async def test_the_client_says_with_which_status(self) -> None:
        runway = Runway(Settings(runway_key=RUNWAY_KEY), answering(200, b"{}")())
        with pytest.raises(RunwayUnavailable) as caught:
            await runway.organization()
        assert caught.value.extra == {"runway_status": 200}

    async def test_a_defect_is_a_finding(self) -> None:
        def broken() -> httpx.AsyncBaseTransport:
            raise RuntimeError("oh")

        found = await ask(replace(keyed(), transport=broken))
        assert found["Runway", "check"].message == "could not be checked (RuntimeError: oh)"


class TestDatabase:
    async def test_away(self) -> None:
        with refusing_port() as address:
            url = address.replace("http://", "postgresql://me:Canary7Canary@") + "/app"
            result = await doctor(DATABASE_URL=url)
        assert result.exit_code == 1
        assert "the database is away" in result.stdout
        assert "Canary7" not in result.stdout + result.stderr
        assert "Traceback" not in result.stdout + result.stderr

    async def test_no_such_database(self, server_url: str) -> None:
        ctx = build(complete(renamed(server_url, "nowhere"), runway_key=None))
        found = await ask(ctx)
        assert found["database", "server"].fix.startswith("create that database")

    async def test_schema_not_migrated(self, empty_database_url: str) -> None:
        async with world(empty_database_url) as w:
            found = await ask(w.ctx)
        assert found["database", "schema"].status is CheckStatus.ERROR
        assert found["database", "schema"].fix == "run `taxiway migrate`"
        assert found["queue", "all of it"].message == "not checked: the schema is not up to date"

    async def test_a_later_migration_is_missing(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        newer = history.scripts() | {"9999_more": ""}
        monkeypatch.setattr(history, "scripts", lambda: newer)
        async with world(database_url) as w:
            found = await ask(w.ctx)
        assert found["database", "schema"].message == "not up to date: 9999_more"

    @pytest.mark.parametrize(
        ("ahead", "status", "words"),
        [
            (4, CheckStatus.OK, "agrees"),
            (60, CheckStatus.WARNING, "60 s ahead of"),
            (-600, CheckStatus.WARNING, "10 min behind"),
        ],
    )
    async def test_clock(self, database_url: str, ahead: float, status: CheckStatus, words: str) -> None:
        async with world(database_url) as w:
            found = await ask(replace(w.ctx, now=lambda: time.time() + ahead))
        assert found["database", "clock"].status is status
        assert words in found["database", "clock"].message

    async def test_old_read_only_and_in_plain_text(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async def server(_database: object) -> dict[str, Any]:
            return {"version": "12.9", "number": 120009, "tls": False, "read_only": True}

        monkeypatch.setattr(doctor_queries, "server", server)
        async with world(database_url, database_pooler="yes") as w:
            target = w.ctx.database.target
            assert target
            elsewhere = replace(target, options=target.options | {"host": "db.example.com"})
            near = await ask(w.ctx)
            await w.ctx.database.fetchval("SELECT 1")
            w.ctx.database.target = elsewhere
            far = await ask(w.ctx)
        assert near["database", "TLS"].status is CheckStatus.OK
        assert near["database", "server"].status is CheckStatus.ERROR
        assert near["database", "writes"].status is CheckStatus.ERROR
        assert far["database", "TLS"].status is CheckStatus.WARNING
        assert "sslmode=require" in far["database", "TLS"].fix
        assert "pooler" in far["database", "pooler"].message

    async def test_tls_is_reported(self, w: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def server(_database: object) -> dict[str, Any]:
            return {"version": "15.1", "number": 150001, "tls": True, "read_only": False}

        monkeypatch.setattr(doctor_queries, "server", server)
        assert (await ask(w.ctx))["database", "TLS"].message == "yes"

    async def test_rights(self, database_url: str) -> None:
        name = f"poor_{os.urandom(4).hex()}"
        async with world(database_url) as w, connected(database_url) as connection:
            await connection.execute(f"CREATE ROLE {name}")
            target = normalise(database_url)
            server = {"server_settings": {"role": name}}
            poor = build(w.ctx.settings).database
            poor.target = replace(target, options=target.options | server)
            try:
                found = await ask(replace(w.ctx, database=poor))
                await grant(database_url, name)
                less = await ask(replace(w.ctx, database=poor))
                await grant(database_url, name, service=True)
                enough = await ask(replace(w.ctx, database=poor))
            finally:
                await poor.close()
                await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
        assert found["database", "rights"].status is CheckStatus.ERROR
        assert "USAGE on the schema taxiway" in found["database", "rights"].message
        assert "EXECUTE on server_identity" in found["database", "rights"].message
        assert found["database", "rights"].fix.startswith(f"run `taxiway grant {name} --service`")
        assert found["queue", "all of it"].message == "not checked: rights are missing"
        assert "USAGE" not in less["database", "rights"].message
        assert "DELETE on videos" in less["database", "rights"].message
        assert enough["database", "rights"].status is CheckStatus.OK
        assert enough["database", "identity"].status is CheckStatus.OK

    async def test_a_schema_that_is_open_to_browsers(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async with role(database_url) as (browser, _), world(database_url) as w:
            monkeypatch.setattr(closing, "BROWSER_ROLES", (browser,))
            assert (await ask(w.ctx))["database", "privacy"].status is CheckStatus.OK
            grants = f"GRANT USAGE ON SCHEMA taxiway TO {browser}; GRANT SELECT (prompt) ON taxiway.videos TO {browser}"
            await execute(database_url, grants)
            check = (await ask(w.ctx))["database", "privacy"]
        assert check.status is CheckStatus.ERROR
        assert f"open to {browser}" in check.message

    async def test_an_older_checkouts_database(self, empty_database_url: str) -> None:
        await execute(empty_database_url, "CREATE TABLE taxiway_migrations (name text)")
        async with world(empty_database_url) as w:
            check = (await ask(w.ctx))["database", "schema"]
        assert "an older version made public.taxiway_migrations" in check.message
        assert "`taxiway adopt --undo`" in check.fix

    async def test_a_restored_database(self, database_url: str) -> None:
        async with world(database_url) as w:
            await execute(
                database_url,
                "INSERT INTO taxiway.models (model, paused_until, reason, detail)"
                " VALUES ('all', 'infinity', 'restored', 'x')",
            )
            check = (await ask(w.ctx))["models", "paused, all models"]
        assert check.status is CheckStatus.ERROR
        assert check.message == "restored: x; it goes on when you resume it"
        assert check.fix.endswith("`taxiway resume all`")

    async def test_a_later_version_that_this_one_works_with(self, database_url: str) -> None:
        later = "INSERT INTO taxiway.migrations (name, sha256, works_with) VALUES ('9999_more', 'x', '0001')"
        async with world(database_url) as w:
            await execute(database_url, later)
            check = (await ask(w.ctx))["database", "schema"]
        assert (check.status, check.message) == (
            CheckStatus.OK, "newer than this version, which works with it: 9999_more",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("found", "words"),
        [
            (history.History(edited=("0001_x",)), "edited since it was applied: 0001_x"),
            (history.History(newer=("0009_x",), unfit=("0009_x",)), "which cannot work with it: 0009_x"),
            (history.History(pending=("0001_x",), skipped=("0001_x",)), "later migrations without 0001_x"),
        ],
    )
    def test_a_history_that_does_not_fit(self, found: history.History, words: str) -> None:
        check = storage.schema(found, None)
        assert check.status is CheckStatus.ERROR
        assert words in check.message
        assert check.fix

    def test_what_a_power_cut_and_a_failover_take(self) -> None:
        safe = {
            "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "synchronous_standby_names": "",
            "standbys": 0,
        }  # fmt: skip

        def checked(**changes: object) -> dict[str, Check]:
            return {check.name: check for check in storage.durability(safe | changes)}

        assert {check.status for check in checked().values()} == {CheckStatus.OK}
        assert "fsync and full_page_writes off" in checked(fsync="off", full_page_writes="off")["disk"].message
        assert checked(fsync="off")["disk"].status is CheckStatus.WARNING
        assert "asks for on by itself" in checked(synchronous_commit="off")["synchronous_commit"].message
        assert "standbys" not in checked()
        assert checked(standbys=2)["standbys"].status is CheckStatus.WARNING
        assert checked(standbys=2, synchronous_standby_names="*")["standbys"].status is CheckStatus.OK

    def test_a_server_that_does_not_say_which_it_is(self) -> None:
        assert storage.identity({"system": "1", "timeline": "1"}, "me").status is CheckStatus.OK
        check = storage.identity({"system": None, "timeline": "1"}, "me")
        assert check.status is CheckStatus.WARNING
        assert "GRANT EXECUTE ON FUNCTION pg_control_system() TO me" in check.fix

    async def test_away_half_way(self, w: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def gone(_database: object) -> Any:
            raise DatabaseUnavailable("gone") from asyncpg.InvalidPasswordError("x")

        monkeypatch.setattr(doctor_queries, "clock", gone)
        assert (await ask(w.ctx))["database", "server"].fix == "correct the user or the password in DATABASE_URL"
        monkeypatch.undo()
        monkeypatch.setattr(doctor_queries, "recent_ticks", gone)
        assert "could not be checked" in (await ask(w.ctx))["queue", "check"].message


class TestQueueAndCron:
    @pytest.mark.parametrize(
        ("model", "reason", "status"),
        [("all", "key_refused", CheckStatus.ERROR), ("gen4_turbo", "manual", CheckStatus.WARNING)],
    )
    async def test_a_paused_model(self, database_url: str, model: str, reason: str, status: CheckStatus) -> None:
        async with world(database_url) as w:
            await models.pause(w.ctx.database, model, 60, reason, "because")
            check = (await ask(w.ctx))["models", "paused, all models" if model == "all" else f"paused, {model}"]
        assert check.status is status
        assert f"{reason}: because" in check.message
        assert check.fix.endswith(f"`taxiway resume {model}`")

    async def test_the_cron_has_stopped(self, database_url: str) -> None:
        async with world(database_url) as w:
            for _ in range(4):
                await w.tick()
                await w.later(minutes=1)
            assert (await ask(w.ctx))["cron", "last tick"].status is CheckStatus.OK
            await w.later(minutes=11)
            stopped = await ask(w.ctx)
        assert stopped["cron", "last tick"].status is CheckStatus.ERROR
        assert stopped["cron", "last tick"].message.startswith("the cron has stopped: 12 min ago")
        assert stopped["cron", "interval"].message == "every 60 s"

    async def test_polls_alone_are_no_cron(self, w: World) -> None:
        await w.enqueue()
        await w.rows("INSERT INTO taxiway.ticks (kind, finished_at) VALUES ('poll', taxiway.now())")
        assert (await ask(w.ctx))["cron", "last tick"].status is CheckStatus.ERROR

    async def test_the_oldest(self, w: World) -> None:
        await w.enqueue()
        assert (await ask(w.ctx))["queue", "oldest queued"].status is CheckStatus.OK
        await w.later(minutes=11)
        assert (await ask(w.ctx))["queue", "oldest queued"].status is CheckStatus.WARNING

    def test_rhythms(self) -> None:
        def ticks(*ages: float, error: str | None = None) -> Found:
            recent = [{"kind": "tick", "error": error, "began_seconds_ago": age} for age in ages]
            return by_name(cron(recent, 0))

        assert set(ticks(5)) == {("cron", "last tick")}
        assert ticks(5, error="poll: RuntimeError")["cron", "last tick"].status is CheckStatus.WARNING
        assert ticks(5, 65, 125, 185)["cron", "missed"].status is CheckStatus.OK
        missed = ticks(5, 65, 125, 425, 485)["cron", "missed"]
        assert (missed.status, missed.message) == (CheckStatus.WARNING, "about 4, among the last 5")
        assert ticks(1, 3, 5, 65, 67)["cron", "missed"].status is CheckStatus.OK
        late = CheckStatus.ERROR  # five times the usual interval, and at least a minute
        assert [ticks(age, age + 2)["cron", "last tick"].status is late for age in (60, 61)] == [False, True]
        assert [ticks(age, age + 60)["cron", "last tick"].status is late for age in (300, 301)] == [False, True]
        assert [ticks(age)["cron", "last tick"].status is late for age in (600, 601)] == [False, True]
        daily = ticks(90_000, 176_400, 262_800)
        assert daily["cron", "last tick"].status is CheckStatus.OK
        assert (daily["cron", "interval"].status, daily["cron", "interval"].message) == (
            CheckStatus.WARNING,
            "every 24 h",
        )

    @pytest.mark.parametrize(("seconds", "words"), [(119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")])
    def test_spans(self, seconds: float, words: str) -> None:
        assert rhythm.span(seconds) == words


def test_the_table_is_aligned_and_says_how_to_fix() -> None:
    table = as_table(
        [Check("a", "long name", CheckStatus.OK, "fine"), Check("area", "b", CheckStatus.WARNING, "odd", "do it")]
    )
    assert table.splitlines() == [
        "STATUS   AREA  CHECK      MESSAGE",
        "warning  area  b          odd",
        "                          fix: do it",
        "ok       a     long name  fine",
        "",
        "0 errors, 1 warning, 1 ok",
    ]


async def test_settings_do_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    result = await doctor(RUNWAYML_BASE_URL=WRONG_URL)
    assert "wrong endpoint" in result.stdout
    assert caplog.records == []


class TestOutside:
    """`taxiway doctor --url`: the public address, as callers would reach it."""

    async def test_all_is_well_and_nothing_is_set_going(self, w: World) -> None:
        await w.enqueue()
        found = by_name(await reachable("https://taxiway.example.com/", httpx.ASGITransport(create_app(w.ctx))))
        assert {name: one.status for (_, name), one in found.items()} == dict.fromkeys(
            ("TLS", "service", "cron route", "callbacks"), CheckStatus.OK
        )
        assert "refused" in found["outside", "callbacks"].message
        assert await w.rows("SELECT FROM taxiway.ticks") == await w.rows("SELECT FROM taxiway.inbox") == []
        assert w.creates == []

    async def test_the_command_looks_at_a_real_socket(self, database_url: str) -> None:
        async with world(database_url, callback_secrets=()) as w, on_socket(create_app(w.ctx)) as url:
            result = await doctor("--json", "--url", url)
        found = by_name([Check(**check) for check in json.loads(result.stdout)])
        assert result.exit_code == 1  # nothing is set here, but outside is well
        assert {one.status for (area, _), one in found.items() if area == "outside"} == {"ok"}
        assert "none are taken" in found["outside", "callbacks"].message

    async def test_nobody_is_there(self) -> None:
        with refusing_port() as url:
            found = by_name(await reachable(url))
        assert found["outside", "service"].status is CheckStatus.ERROR
        assert found["outside", "callbacks"].message == "not checked: the service does not answer"

    @pytest.mark.parametrize(
        ("path", "answer", "name", "status", "words"),
        [
            ("/health/live", httpx.Response(200, text="<html>Log in"), "service", CheckStatus.ERROR, "not Taxiway"),
            ("/health/live", httpx.Response(308, headers={"location": "https://www.x.org"}), "service",
             CheckStatus.ERROR, "redirects to https://www.x.org"),
            ("/process-queued", httpx.Response(404), "cron route", CheckStatus.ERROR, "answers 404"),
            ("/callbacks/runway", httpx.Response(202), "callbacks", CheckStatus.ERROR, "not 401"),
            ("/callbacks/runway", httpx.Response(403), "callbacks", CheckStatus.WARNING, "not 401"),
            ("/callbacks/runway", httpx.ReadTimeout("late"), "callbacks", CheckStatus.WARNING, "stopped answering"),
        ],
    )  # fmt: skip
    async def test_what_stands_in_between(
        self, path: str, answer: httpx.Response | Exception, name: str, status: CheckStatus, words: str
    ) -> None:
        usual = {
            "/health/live": httpx.Response(200, json={"status": "alive"}),
            "/process-queued": httpx.Response(204, headers={"allow": "GET, POST"}),
            "/callbacks/runway": httpx.Response(401, json={"type": "urn:taxiway:problem:unauthorized"}),
        }

        def say(request: httpx.Request) -> httpx.Response:
            said = (usual | {path: answer})[request.url.path]
            if isinstance(said, Exception):
                raise said
            return said

        found = by_name(await reachable("http://taxiway.example.com", httpx.MockTransport(say)))
        assert (found["outside", name].status, words in found["outside", name].message) == (status, True)
        if name != "service":
            assert found["outside", "service"].status is CheckStatus.OK
        assert found["outside", "TLS"].status is CheckStatus.WARNING

    async def test_what_is_no_address_is_reported(self) -> None:
        result = await doctor("--url", "taxiway.example.com")
        assert (result.exit_code, result.stderr.startswith("taxiway: --url must be a URL")) == (1, True)


class TestInHealth:
    """/health tells whoever may look at the machinery what the doctor says."""

    async def test_with_a_token_and_only_with_one(self, database_url: str) -> None:
        tokens: dict[str, Any] = {
            "admin_tokens": ("admin-token-for-tests-01",),
            "viewer_tokens": ("viewer-token-for-tests-1",),
        }
        async with world(database_url, **tokens) as w:
            for (token,) in tokens.values():
                health = (await w.anyone.get("/health", headers={"authorization": f"Bearer {token}"})).json()
                found = by_name([Check(**check) for check in health["doctor"]])
                assert found["Runway", "credits"].message.endswith(" left")
                assert ("cron", "last tick") in found
            for client in (w.anyone, w.api, w.cron):
                health = (await client.get("/health")).json()
                assert "doctor" not in health
                assert health["status"] == "attention"

    async def test_also_without_a_database(self) -> None:
        token = "viewer-token-for-tests-1"  # of this test alone
        async with world("postgresql://nobody@127.0.0.1:9/nothing", viewer_tokens=(token,)) as w:
            response = await w.anyone.get("/health", headers={"authorization": f"Bearer {token}"})
            found = by_name([Check(**check) for check in response.json()["doctor"]])
        assert response.status_code == 503
        assert found["database", "server"].status == "error"
