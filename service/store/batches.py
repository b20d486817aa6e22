"""Writing many rows at once, so that one that PostgreSQL refuses costs the others nothing.

A batch is one statement: that is the usual, and all that it costs. If PostgreSQL refuses it, whatever its words (a
trigger raises what it likes), it is split by halves, each in a transaction of its own, until the row that is refused
stands alone: it is parked, and the others are written. Only a database that cannot be reached stops this.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

from service.store.database import Database
from service.store.driver_errors import Meaning, is_refusal, is_wide, meaning

PARKED = "refused_row"  # the kind of event that parks a row
PARKED_MINUTES = 10  # a statement that chooses its own rows passes over those parked so recently
# So many statements refused for a reason that is rather the server's than a row's (its disk is full, a right is
# missing), and none that succeeded: the rest of the batch would be refused as well.
HOPELESS = 16

Row = TypeVar("Row")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Refusal:
    """A row that PostgreSQL refused although it stood alone: by which statement, its key, its video if it has one."""

    statement: str
    key: str
    video_id: UUID | None
    error: Exception


class Parking(Protocol):
    """What becomes of a row that is refused."""

    def passed_over(self, statement: str) -> list[str]:
        """The keys that this process passes over at the moment."""

    async def park(self, refusal: Refusal) -> None:
        """Put one aside."""


class _Propagating:
    """Without a parking: the first refusal is raised, and nothing is split."""

    def passed_over(self, _statement: str) -> list[str]:
        return []

    async def park(self, refusal: Refusal) -> None:
        raise refusal.error


RAISE = _Propagating()

Key = Callable[[Row], tuple[Hashable, UUID | None]]


async def write(
    statement: str,
    rows: Sequence[Row],
    write_rows: Callable[[Sequence[Row]], Awaitable[Result]],
    key: Key[Row],
    parking: Parking = RAISE,
) -> list[Result]:
    """Write these rows with as few statements as PostgreSQL allows; the results of those that succeeded, in any order.

    `statement`: its name in events; `key`: of a row, and its video's id, if any. Raises whatever says that PostgreSQL
    cannot be reached, and, after parking, what refused all rows for a reason that is rather the server's.
    """
    if not rows:
        return []
    if parking is RAISE:
        return [await write_rows(rows)]
    done: list[Result] = []
    parts = deque([(list(rows), False)])
    refusals: list[Exception] = []
    while parts:
        part, is_again = parts.popleft()
        try:
            done.append(await write_rows(part))
            continue
        except Exception as exc:
            if not is_refusal(exc):
                raise
            error = exc
        refusals.append(error)
        if len(refusals) >= HOPELESS:
            _raise_if_hopeless(done, refusals)
        if len(part) > 1:
            middle = len(part) // 2
            parts.extend(((part[:middle], False), (part[middle:], False)))
        elif not is_again and meaning(error) is Meaning.FOR_NOW:
            parts.append((part, True))  # a deadlock, say: once more, now that it is alone
        else:
            name, video_id = key(part[0])
            await parking.park(Refusal(statement, str(name), video_id, error))
    _raise_if_hopeless(done, refusals)
    return done


def _raise_if_hopeless(done: Sequence[object], refusals: Sequence[Exception]) -> None:
    """Nothing succeeded, and all that was said is the server's trouble rather than a row's: say that."""
    if refusals and not done and all(map(is_wide, refusals)):
        raise refusals[0]


ONLY = "/* only */"  # stands in a statement where its choice of rows can be narrowed; in SQL it is nothing


class Choosing:
    """A statement that chooses its own rows.

    `sql`: the statement; `choice`: only what it chooses, as (key, video_id), with as many of the same parameters as
    `takes` says (all, if None); both with ONLY in their condition. `key`: the column of the key there.
    """

    def __init__(
        self, name: str, sql: str, choice: str, key: str, *, key_type: str = "uuid", takes: int | None = None
    ) -> None:
        given = f"ARRAY(SELECT CAST(value AS {key_type}) FROM jsonb_array_elements_text({{keys}}::jsonb))"
        # The key stands outside: within, a plain `id` would be the event's.
        parked = (
            f"CAST({key} AS text) <> ALL(ARRAY(SELECT e.detail ->> 'key' FROM taxiway.events e"
            f" WHERE e.kind = '{PARKED}' AND e.at > taxiway.now() - interval '{PARKED_MINUTES} minutes'"
            f" AND e.detail ->> 'statement' = '{name}'))"
        )
        self.name = name
        self.takes = takes
        self.usual = sql.replace(ONLY, "")
        self._these = sql.replace(ONLY, f"AND {key} = ANY({given})")
        self._others = choice.replace(ONLY, f"AND {key} <> ALL({given}) AND {parked}")

    def these(self, place: int) -> str:
        """The statement for named rows; their keys are the parameter at this place."""
        return self._these.replace("{keys}", f"${place}")

    def others(self, place: int) -> str:
        """The choice among all rows but the named ones, and those parked lately."""
        return self._others.replace("{keys}", f"${place}")


async def fetch(database: Database, statement: Choosing, *arguments: object, parking: Parking = RAISE) -> list[Any]:
    """Run it; its rows."""
    parts = await _run(database.fetch, database, statement, arguments, parking)
    return [row for part in parts for row in part]


async def execute(database: Database, statement: Choosing, *arguments: object, parking: Parking = RAISE) -> int:
    """Run it; how many rows it touched."""
    return sum(await _run(database.execute, database, statement, arguments, parking))


async def _run(
    run: Callable[..., Awaitable[Result]],
    database: Database,
    statement: Choosing,
    arguments: tuple[object, ...],
    parking: Parking,
) -> list[Result]:
    return await write_chosen(
        statement.name,
        usual=lambda: run(statement.usual, *arguments),
        choose=lambda keys: choose(database, statement, arguments[: statement.takes], keys),
        these=lambda keys: run(statement.these(len(arguments) + 1), *arguments, json.dumps(keys)),
        parking=parking,
    )


async def choose(
    database: Database, statement: Choosing, arguments: tuple[object, ...], passed_over: Sequence[str]
) -> list[tuple[str, UUID | None]]:
    """The rows that it would take, but those: (key, video_id) of each."""
    rows = await database.fetch(statement.others(len(arguments) + 1), *arguments, json.dumps(list(passed_over)))
    return [(str(row[0]), row[1]) for row in rows]


async def write_chosen(
    statement: str,
    *,
    usual: Callable[[], Awaitable[Result]],
    choose: Callable[[Sequence[str]], Awaitable[list[tuple[str, UUID | None]]]],
    these: Callable[[list[str]], Awaitable[Result]],
    parking: Parking,
) -> list[Result]:
    """A statement that chooses its own rows: as it stands; if that is refused, its choice by halves.

    What this process has parked a moment ago is passed over at once, and so is not refused twice in one tick.
    """
    passed_over = parking.passed_over(statement)
    if not passed_over:
        try:
            return [await usual()]
        except Exception as exc:
            if parking is RAISE or not is_refusal(exc):
                raise
            first = exc
    else:
        first = None
    chosen = dict(await choose(passed_over))
    if not chosen and first is not None and is_wide(first):
        raise first  # nothing to split: it is not a row's
    return await write(statement, list(chosen), lambda keys: these(list(keys)), lambda k: (k, chosen[k]), parking)
