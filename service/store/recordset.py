"""Many rows as one parameter.

As jsonb and not as arrays: for array parameters asyncpg looks their types up on every new connection, and sets `jit`
for the session while it does; behind a transaction pooler that would stay with another client's session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic_core import to_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def as_records(rows: Sequence[DataclassInstance] | Sequence[Mapping[str, object]]) -> str:
    """Dataclasses, or values by name, as the argument of `jsonb_to_recordset`.

    That reads times, ids and amounts from their text.
    """
    return to_json(rows, fallback=str).decode()
