"""Looks at an installation for `taxiway doctor`: at its settings, Runway, the database, the queue and the cron.

Whatever is away, or odd, is a finding: nothing here raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from service import house as houses
from service.doctor.checks import Finding, State, account, callbacks, no_account, refused, settings, unchecked
from service.doctor.queue import cron, lane, queue, span
from service.errors import BadSettings, DatabaseAway, RunwayAway
from service.house import House
from service.installer import migrate
from service.logs import Redactor
from service.store import checks, lanes, standing
from service.store.url import Target

OLDEST_POSTGRES = 13
SKEW_SECONDS = 5.0
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

DATABASE_MENDS = {
    "InvalidPasswordError": "correct the user or the password in DATABASE_URL",
    "InvalidAuthorizationSpecificationError": "correct the user in DATABASE_URL, or let it in (pg_hba.conf)",
    "InvalidCatalogNameError": "create that database, or correct the name at the end of DATABASE_URL",
    "gaierror": "correct the host in DATABASE_URL",
}


async def installation(environment: Mapping[str, str]) -> list[Finding]:
    """Everything about the installation that this process's environment describes."""
    try:
        house = houses.from_environment()
    except BadSettings as exc:
        why = "the settings contradict themselves"
        rest = [unchecked(area, "all of it", why) for area in ("Runway", "database", "queue", "cron", "callbacks")]
        return _fit_to_show([*refused(exc.complaints), *rest], Redactor())
    try:
        return await examine(house, environment)
    finally:
        await house.database.close()


async def examine(house: House, environment: Mapping[str, str]) -> list[Finding]:
    """Everything about one house; no secret is in any of it."""
    runway, stored = await asyncio.gather(
        _guarded("Runway", lambda: _runway(house)), _guarded("database", lambda: _stored(house))
    )
    found = [*settings(house.settings, environment), *runway, *stored, callbacks(house.settings)]
    password = house.database.target.options.get("password") if house.database.target else None
    return _fit_to_show(found, Redactor([*house.settings.secrets, *filter(None, [password])]))


def _fit_to_show(findings: Sequence[Finding], redact: Redactor) -> list[Finding]:
    """Without secrets, and each on one line: some of the words are a stranger's."""

    def shown(text: str) -> str:
        return " ".join("".join(c if c.isprintable() else " " for c in redact(text)).split())

    return [replace(finding, found=shown(finding.found), mend=shown(finding.mend)) for finding in findings]


async def _guarded(area: str, work: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """The findings of `work`, or the one that it could not be done."""
    try:
        return await work()
    except Exception as exc:
        words = f"could not be checked ({type(exc).__name__}: {exc})"
        return [Finding(area, "check", State.BROKEN, words, "see what the words in brackets name")]


async def _runway(house: House) -> list[Finding]:
    if not house.settings.runway_key:
        return [unchecked("Runway", name, "key missing") for name in ("endpoint", "key", "credits")]
    try:
        async with house.runway() as runway:
            return account(house.settings, await runway.organization())
    except RunwayAway as exc:
        return no_account(house.settings, exc)


async def _stored(house: House) -> list[Finding]:
    """The database, and what is in it."""
    target = house.database.target
    if target is None:
        return [unchecked(area, "all of it", "DATABASE_URL is not set") for area in ("database", "queue", "cron")]
    try:
        found = await _server(house, target)
        pending = await _pending(house)
    except DatabaseAway as exc:
        mend = DATABASE_MENDS.get(type(exc.__cause__).__name__, "start it, or correct DATABASE_URL")
        away = Finding("database", "server", State.BROKEN, f"{target.dsn}: {exc.detail}", mend)
        return [away, *(unchecked(area, "all of it", "the database is away") for area in ("queue", "cron"))]
    if pending:
        found += await _guarded("database", lambda: _outdated(house, pending))
        return found + [unchecked(area, "all of it", "the schema is not up to date") for area in ("queue", "cron")]
    found.append(Finding("database", "schema", State.OK, "up to date"))
    found += await _guarded("database", lambda: _rights(house))
    return found + await _guarded("queue", lambda: _queue_and_cron(house))


async def _server(house: House, target: Target) -> list[Finding]:
    server = await checks.server(house.database)
    old = server["number"] < OLDEST_POSTGRES * 10_000
    upgrade = f"move to PostgreSQL {OLDEST_POSTGRES} or newer" if old else ""
    found = [
        Finding(
            "database", "server", State.BROKEN if old else State.OK,
            f"PostgreSQL {server['version']} at {target.dsn}", upgrade,
        )
    ]  # fmt: skip
    if server["read_only"]:
        words = "it takes no writes: a replica, or set to read-only"
        found.append(Finding("database", "writes", State.BROKEN, words, "use the URL of the primary in DATABASE_URL"))
    host = str(target.options.get("host"))
    encrypted, near = server["tls"], host.startswith("/") or host in LOCAL_HOSTS
    words = "yes" if encrypted else "no, and this machine's own" if near else "no: passwords and prompts in plain text"
    state, mend = (State.OK, "") if encrypted or near else (State.WARNING, "add sslmode=require to DATABASE_URL")
    words += " (of the pooler's own connection)" if target.pooler else ""
    found.append(Finding("database", "TLS", state, words, mend))
    pooler = "a transaction pooler: `taxiway worker` goes by its clock alone" if target.pooler else "none"
    found.append(Finding("database", "pooler", State.OK, pooler))
    return [*found, await _clock(house)]


async def _clock(house: House) -> Finding:
    before = house.wall()
    there = await checks.clock(house.database)
    skew = there - (before + house.wall()) / 2  # the statement was read about half-way
    if abs(skew) <= SKEW_SECONDS:
        return Finding("database", "clock", State.OK, "agrees with this machine's")
    words = f"this machine's clock is {span(abs(skew))} {'behind' if skew > 0 else 'ahead of'} the database's"
    return Finding("database", "clock", State.WARNING, words, "set both by NTP: signatures are checked by the clock")


async def _pending(house: House) -> list[str]:
    async with house.database.connection() as connection:
        return await migrate.pending(connection)


async def _outdated(house: House, pending: list[str]) -> list[Finding]:
    """A schema that is not up to date; of an app's own table, what its way of calling Runway has left there."""
    words, mend = f"not up to date: {', '.join(pending)}", "run `taxiway migrate`"
    found = [Finding("database", "schema", State.BROKEN, words, mend)]
    if pending[0] != next(iter(migrate.scripts())):
        return found
    plan = await migrate.plan(house.settings.database_url or "")
    if plan.stuck:
        words = f"function ends with the response: {plan.stuck} rows of {plan.table} stand at processing without an id"
        mend = "run `taxiway migrate`, which gives each a reason, and let Taxiway make the calls"
        found.append(Finding("database", "stuck rows", State.BROKEN, words, mend))
    if plan.obstacles:
        words = f"in the way of the migration: {'; '.join(why for why, _ in plan.obstacles)}"
        mend = "run `taxiway migrate`, which prints the SQL that removes it and changes nothing before"
        found.append(Finding("database", "migration", State.BROKEN, words, mend))
    return found


async def _rights(house: House) -> list[Finding]:
    missing = await checks.missing_rights(house.database)
    if not missing:
        return [Finding("database", "rights", State.OK, "all that are needed")]
    mend = "GRANT them to this role, or use the role that migrated"
    return [Finding("database", "rights", State.BROKEN, f"missing: {', '.join(missing)}", mend)]


async def _queue_and_cron(house: House) -> list[Finding]:
    facts = await standing.report(house.database)
    paused = await lanes.paused(house.database)
    recent = await checks.recent_ticks(house.database)
    under_way = sum(facts["counts"].get(status, 0) for status in ("queued", "processing"))
    return [*queue(facts), *(lane(dict(row)) for row in paused), *cron(recent, under_way)]
