"""Checks an installation for `taxiway doctor`: its settings, Runway, the database, the queue and the cron.

Whatever cannot be reached, or is odd, becomes a check: nothing here raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from service import context as contexts
from service.context import Context
from service.doctor import at_work, known_models, linked_tables, margins, storage, webhooks_out
from service.doctor.checks import (
    Check,
    CheckStatus,
    account,
    callbacks,
    fit_to_show,
    no_account,
    refused,
    settings,
    unchecked,
)
from service.doctor.queue import cron, paused_model, queue, refused_rows
from service.errors import BadSettings, DatabaseUnavailable, RunwayUnavailable
from service.installer import history as scripts
from service.installer.closing import open_to
from service.installer.history import History
from service.installer.obstacles import OLDEST_POSTGRES, older_checkout
from service.operations.accounting import ask
from service.operations.rhythm import span
from service.redaction import Redactor
from service.store import doctor_queries, parked
from service.store.url import Target

SKEW_SECONDS = 5.0
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

DATABASE_FIXES = {
    "InvalidPasswordError": "correct the user or the password in DATABASE_URL",
    "InvalidAuthorizationSpecificationError": "correct the user in DATABASE_URL, or let it in (pg_hba.conf)",
    "InvalidCatalogNameError": "create that database, or correct the name at the end of DATABASE_URL",
    "gaierror": "correct the host in DATABASE_URL",
}


async def installation(
    environment: Mapping[str, str], open_context: Callable[[], Context] = contexts.from_environment
) -> list[Check]:
    """Everything about the installation that this process's environment describes."""
    try:
        ctx = open_context()
    except BadSettings as exc:
        why = "the settings contradict themselves"
        rest = [unchecked(area, "all of it", why) for area in ("Runway", "database", "queue", "cron", "callbacks")]
        return fit_to_show([*refused(exc.complaints), *rest], Redactor())
    try:
        return await run_checks(ctx, environment)
    finally:
        await ctx.database.close()


async def run_checks(ctx: Context, environment: Mapping[str, str]) -> list[Check]:
    """Everything about one context; no secret is in any of it."""
    runway, stored, unused = await asyncio.gather(
        _guarded("Runway", lambda: _runway(ctx)), _guarded("database", lambda: _stored(ctx)), _unused(ctx)
    )
    found = [
        *settings(ctx.settings, environment, unused),
        *known_models.checks(ctx.settings),
        *runway,
        *stored,
        callbacks(ctx.settings),
    ]
    return fit_to_show(found, ctx.settings.redactor)


async def status(ctx: Context) -> list[Check]:
    """Whether videos get through: the cheap checks. Raises DatabaseUnavailable and NotConfigured."""
    found = at_work.checks(ctx.settings, await at_work.facts(ctx.database, ctx.settings), ctx.now())
    return fit_to_show(found, ctx.settings.redactor)


async def _unused(ctx: Context) -> frozenset[str]:
    """The settings that this installation does without; none where the database does not say."""
    try:
        return await at_work.unused(ctx.database, await doctor_queries.recent_ticks(ctx.database))
    except Exception:  # other checks say what is wrong
        return frozenset()


async def _guarded(area: str, work: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    """The checks of `work`, or the one that it could not be done."""
    try:
        return await work()
    except Exception as exc:
        words = f"could not be checked ({type(exc).__name__}: {exc})"
        return [Check(area, "check", CheckStatus.ERROR, words, "see what the words in brackets name")]


async def _runway(ctx: Context) -> list[Check]:
    if not ctx.settings.runway_key:
        return [unchecked("Runway", name, "key missing") for name in ("endpoint", "key", "credits")]
    try:
        return account(ctx.settings, await ask(ctx))
    except RunwayUnavailable as exc:
        return no_account(ctx.settings, exc)


async def _stored(ctx: Context) -> list[Check]:
    """The database, and what is in it."""
    target = ctx.database.target
    if target is None:
        return [unchecked(area, "all of it", "DATABASE_URL is not set") for area in ("database", "queue", "cron")]
    try:
        found = await _server(ctx, target)
        missing = await doctor_queries.missing_rights(ctx.database)
        durable = await doctor_queries.durability(ctx.database)
        found += storage.durability(durable)
        if missing:  # then even the list of migrations may be closed
            found.append(storage.rights(missing, durable["role"]))
            return found + [unchecked(area, "all of it", "rights are missing") for area in ("queue", "cron")]
        history, schema, is_open = await _schema(ctx)
    except DatabaseUnavailable as exc:
        fix = DATABASE_FIXES.get(type(exc.__cause__).__name__, "start it, or correct DATABASE_URL")
        away = Check("database", "server", CheckStatus.ERROR, f"{target.dsn}: {exc.detail}", fix)
        return [away, *(unchecked(area, "all of it", "the database is away") for area in ("queue", "cron"))]
    found.append(schema)
    if not storage.is_usable(history):
        return found + [unchecked(area, "all of it", "the schema is not up to date") for area in ("queue", "cron")]
    found += [storage.rights(missing, durable["role"]), storage.openness(is_open)]
    found.append(storage.identity(await doctor_queries.identity(ctx.database), durable["role"]))
    found += await _guarded("queue", lambda: _queue_and_cron(ctx))
    return found + await _guarded(linked_tables.AREA, lambda: linked_tables.run(ctx))


async def _server(ctx: Context, target: Target) -> list[Check]:
    server = await doctor_queries.server(ctx.database)
    old = server["number"] < OLDEST_POSTGRES * 10_000
    upgrade = f"move to PostgreSQL {OLDEST_POSTGRES} or newer" if old else ""
    found = [
        Check(
            "database", "server", CheckStatus.ERROR if old else CheckStatus.OK,
            f"PostgreSQL {server['version']} at {target.dsn}", upgrade,
        )
    ]  # fmt: skip
    if server["read_only"]:
        words = "it takes no writes: a replica, or set to read-only"
        found.append(
            Check("database", "writes", CheckStatus.ERROR, words, "use the URL of the primary in DATABASE_URL")
        )
    host = str(target.options.get("host"))
    encrypted, near = server["tls"], host.startswith("/") or host in LOCAL_HOSTS
    words = "yes" if encrypted else "no, and this machine's own" if near else "no: passwords and prompts in plain text"
    status, fix = (
        (CheckStatus.OK, "") if encrypted or near else (CheckStatus.WARNING, "add sslmode=require to DATABASE_URL")
    )
    words += " (of the pooler's own connection)" if target.pooler else ""
    found.append(Check("database", "TLS", status, words, fix))
    pooler = "a transaction pooler: `taxiway worker` goes by its clock alone" if target.pooler else "none"
    found.append(Check("database", "pooler", CheckStatus.OK, pooler))
    return [*found, await _clock(ctx)]


async def _clock(ctx: Context) -> Check:
    before = ctx.now()
    there = await doctor_queries.clock(ctx.database)
    skew = there - (before + ctx.now()) / 2  # the statement was read about half-way
    if abs(skew) <= SKEW_SECONDS:
        return Check("database", "clock", CheckStatus.OK, "agrees with this machine's")
    words = f"this machine's clock is {span(abs(skew))} {'behind' if skew > 0 else 'ahead of'} the database's"
    return Check(
        "database", "clock", CheckStatus.WARNING, words, "set both by NTP: signatures are checked by the clock"
    )


async def _schema(ctx: Context) -> tuple[History, Check, list[str]]:
    """The history of the schema, what it comes to, and the browser roles to which it is open."""
    async with ctx.database.connection() as connection:
        raw = connection.raw
        history = await scripts.history(raw)
        older = await older_checkout(raw) if history.pending else None
        return history, storage.schema(history, older), await open_to(raw)


async def _queue_and_cron(ctx: Context) -> list[Check]:
    seen = await at_work.facts(ctx.database, ctx.settings)
    refusals = refused_rows(await parked.newest(ctx.database))
    paused = [paused_model(row, ctx.now()) for row in seen.paused]
    near = [*margins.failures(seen.margins), *margins.budgets(ctx.settings, seen.spent)]
    away = [webhooks_out.troubled(one, ctx.now()) for one in seen.endpoints]
    return [*queue(seen.report), refusals, *near, *paused, *cron(seen.recent, seen.under_way), *away]
