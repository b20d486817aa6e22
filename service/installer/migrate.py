"""Brings the schema `taxiway` up to date: forward only, all or nothing, once however many processes ask at once.

Only what is in `migrations/` is run, and only in the schema `taxiway`. A script that was applied is never edited: its
SHA-256 is kept, and compared.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from service.errors import MigrationBlocked
from service.installer.closing import close_schema
from service.installer.history import History, applied, compare, digest, pending, scripts, works_with
from service.installer.obstacles import obstacles
from service.installer.turn import Connection, changing
from service.installer.view import refresh_view

__all__ = ["Migrated", "explain", "migrate", "pending", "scripts"]

log = logging.getLogger(__name__)

# One script that was applied.
WRITE_HISTORY = "INSERT INTO taxiway.migrations (name, sha256, works_with) VALUES ($1, $2, $3)"


@dataclass(frozen=True)
class Migrated:
    """What `migrate` did. `newer`: scripts of a later version that the database has had, and that do no harm."""

    applied: tuple[str, ...]
    newer: tuple[str, ...] = ()


async def migrate(url: str) -> Migrated:
    """Apply what is missing, in one transaction.

    Raises MigrationBlocked, having changed nothing, and DatabaseUnavailable.
    """
    async with changing(url) as connection:
        return await _migrate(connection, scripts())


async def _migrate(connection: Connection, known: dict[str, str]) -> Migrated:
    had = await applied(connection)
    found = compare(had, known)
    _refuse(found)
    if found.pending:
        if blocked := await obstacles(connection, fresh=not had):
            raise MigrationBlocked(blocked)
        for name in found.pending:
            await connection.execute(known[name])
            await connection.execute(WRITE_HISTORY, name, digest(known[name]), works_with(name, known[name]))
            log.info("applied migration %s", name)
        await close_schema(connection)
        await refresh_view(connection)
    return Migrated(found.pending, found.newer)


def _refuse(found: History) -> None:
    """Raise MigrationBlocked where the database's history does not lead to this version's."""
    if found.edited:
        names = ", ".join(found.edited)
        why = f"edited since it was applied: {names}. Put the file back as it was, and write what is new into a new one"
        raise MigrationBlocked([(why, "")])
    if found.skipped:
        raise MigrationBlocked([(f"later migrations have been applied without {', '.join(found.skipped)}", "")])
    if found.unfit:
        why = f"the database is newer than this version of Taxiway, which cannot work with it: {', '.join(found.unfit)}"
        raise MigrationBlocked([(f"{why}. Run the newer version", "")])
    if found.newer and found.pending:
        why = f"the database has had {', '.join(found.newer)} of another version, but not {', '.join(found.pending)}"
        raise MigrationBlocked([(why, "")])


def explain(exc: MigrationBlocked) -> str:
    """The obstacles as a person reads them in a terminal, with the SQL ready to paste."""
    count = len(exc.obstacles)
    things = "One thing stands" if count == 1 else f"{count} things stand"
    lines = [f"{exc.title}. {things} in the way:"]
    for number, (why, sql) in enumerate(exc.obstacles, 1):
        lines += ["", f"{number}. {why}"]
        lines += [f"       {line}" for line in sql.splitlines()]
    if any(sql for _, sql in exc.obstacles):
        lines += ["", "Run the SQL above as a role that may, then migrate again."]
    return "\n".join(lines)
