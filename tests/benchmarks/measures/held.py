"""The drain while another session holds a transaction open: dead rows stay, and everybody reads past them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.benchmarks.figures import Figure, Measured, Values
from tests.benchmarks.lab import Lab
from tests.benchmarks.measures.drain import FLOOR, POSTGRES_PEERS, TAXIWAY, drain
from tests.database import connected

FIGURES = (
    Figure("undisturbed", "undisturbed, jobs/s"),
    Figure("held", "with an open transaction, jobs/s"),
    Figure("share", "share", 2),
)


async def run(lab: Lab) -> Measured:
    """Taxiway, the floor, and the peers on PostgreSQL that are not slow: each both ways, one after the other."""
    count = lab.size(5_000, 200)
    shown = (TAXIWAY,) if lab.quick else (TAXIWAY, FLOOR, *POSTGRES_PEERS)
    by_name = {name: one for name, one in lab.usual().items() if name in shown and one.store == "postgres"}

    async def both(name: str) -> Values:
        undisturbed = (await drain(lab, by_name[name], count, 0.0))["per_second"]
        held = (await drain(lab, by_name[name], count, 0.0, around=holding))["per_second"]
        return {"undisturbed": undisturbed, "held": held, "share": held / undisturbed}

    rounds = await lab.in_rounds(list(by_name), both)
    title = f"Drain of {count:,} jobs at 0 ms while another session holds a transaction open"
    missing = {name: why for name, why in lab.missing.items() if name in POSTGRES_PEERS}
    result = Measured("held", title, FIGURES, rounds, missing=missing)
    result.bar("share of the undisturbed throughput", result.middle(TAXIWAY, "share"), least=0.8)
    return result


@asynccontextmanager
async def holding(url: str) -> AsyncIterator[None]:
    """A transaction that has written, and has a snapshot, and sleeps."""
    async with connected(url) as connection, connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("SELECT pg_current_xact_id()")
        yield
