"""Whether a link still fits its table, asked of PostgreSQL with one statement."""

from __future__ import annotations

from service.link_mapping import Link
from service.store.link_catalogue import Reader, find
from service.store.link_fit import Fit, Reason, judge

__all__ = ["Fit", "Reason", "fit", "judge"]


async def fit(reader: Reader, link: Link) -> Fit:
    """Ask once, and judge. Raises what the reader raises."""
    return judge(link, await find(reader, link))
