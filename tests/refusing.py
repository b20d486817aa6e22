"""Rows that PostgreSQL refuses: a trigger that raises what it is told to, for one row of a table."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from tests.database import execute

OF_A_ROW = ("P0001", "54000", "22003")
OF_THE_SERVER, OF_THE_MOMENT = "42501", "40001"
CODES = (*OF_A_ROW, OF_THE_SERVER, OF_THE_MOMENT)
EVERY_CASE = bool(os.environ.get("TAXIWAY_EVERY_CASE"))

_FUNCTION = """
CREATE OR REPLACE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE it jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
    IF it ->> TG_ARGV[0] = TG_ARGV[1] THEN
        RAISE EXCEPTION 'refused by a test' USING ERRCODE = TG_ARGV[2];
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$
"""
KEYS = {"videos": "id", "submissions": "video_id", "search": "video_id", "models": "model", "inbox": "task_id"}


def codes_for(number: int) -> tuple[str, ...]:
    """The codes that a test's case of this number meets: one of each kind; all with `TAXIWAY_EVERY_CASE`."""
    return CODES if EVERY_CASE else (OF_A_ROW[number % len(OF_A_ROW)], OF_THE_SERVER, OF_THE_MOMENT)


async def refuse(
    url: str, table: str, row: UUID | str | int, code: str = "P0001", *, key: str | None = None,
    on: str = "INSERT OR UPDATE OR DELETE",
) -> None:  # fmt: skip
    """From now on each write of this row (`key`: the column that names it) raises that SQLSTATE."""
    call = f"public.refuse('{key or KEYS[table]}', '{row}', '{code}')"
    trigger = f"CREATE TRIGGER refuse BEFORE {on} ON taxiway.{table} FOR EACH ROW EXECUTE FUNCTION {call}"
    await execute(url, _FUNCTION, trigger)


async def allow(url: str, table: str) -> None:
    """The trigger is gone."""
    await execute(url, f"DROP TRIGGER IF EXISTS refuse ON taxiway.{table}")


@asynccontextmanager
async def refusing(url: str, table: str, row: UUID | str | int, code: str = "P0001", **how: Any) -> AsyncIterator[None]:
    """The trigger for as long as this is entered."""
    await refuse(url, table, row, code, **how)
    try:
        yield
    finally:
        await allow(url, table)
