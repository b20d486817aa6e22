"""The scripts that this version brings, beside those that a database has had."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.installer.turn import Connection

WORKS_WITH = re.compile(r"^-- works with: (\d{4})$", re.MULTILINE)

# The scripts that a database has had. Read through the catalogue first: without the schema there is nothing to name.
HAS_HISTORY = """
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'taxiway' AND c.relname = 'migrations')
"""
READ_HISTORY = "SELECT name, sha256, works_with FROM taxiway.migrations ORDER BY name"


@dataclass(frozen=True)
class History:
    """The scripts of a database, compared with those of this version; names, in order.

    `pending` are still to be applied, `skipped` of them come before one that was. `edited`: the file has changed since
    it was applied. `newer`: applied by a later version; `unfit` of those leave a schema that this one cannot work with.
    """

    pending: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()


def directory() -> Path:
    """Where the migrations are: inside the installed package, else at the top of the repository."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def scripts() -> dict[str, str]:
    """Every migration that this version brings, by name, in order; LF at the end of each line, however it was saved."""
    files = sorted(directory().glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def digest(script: str) -> str:
    """The SHA-256 of a script's text, as hexadecimal digits."""
    return hashlib.sha256(script.encode()).hexdigest()


def works_with(name: str, script: str) -> str:
    """The number of the oldest script that a version must have to work with the schema that this one leaves.

    A script names it in a line `-- works with: 0003`; without one, only versions that have the script itself can.
    """
    named = WORKS_WITH.search(script)
    return named[1] if named else name[:4]


def compare(applied: Mapping[str, tuple[str, str]], known: Mapping[str, str]) -> History:
    """A database's history beside this version's scripts. `applied`: by name, (SHA-256, works with)."""
    pending = tuple(name for name in known if name not in applied)
    newer = tuple(name for name in applied if name not in known)
    newest = max(known, default="")[:4]
    last = max((name for name in known if name in applied), default="")
    return History(
        pending=pending,
        skipped=tuple(name for name in pending if name < last),
        edited=tuple(name for name, script in known.items() if name in applied and applied[name][0] != digest(script)),
        newer=newer,
        unfit=tuple(name for name in newer if applied[name][1] > newest),
    )


async def applied(connection: Connection) -> dict[str, tuple[str, str]]:
    """The scripts that the database has had: by name, (SHA-256, works with)."""
    if not await connection.fetchval(HAS_HISTORY):
        return {}
    rows = await connection.fetch(READ_HISTORY)
    return {row["name"]: (row["sha256"], row["works_with"]) for row in rows}


async def history(connection: Connection) -> History:
    """How this database's scripts compare with this version's."""
    return compare(await applied(connection), scripts())


async def pending(connection: Connection) -> list[str]:
    """The migrations that this database has not had yet; [] when the schema is up to date, or newer."""
    return list((await history(connection)).pending)
