"""Listen: every event is sent to a laptop, by the laptop, for as long as it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from secrets import token_hex
from urllib.parse import urlsplit

from service import ssrf
from service.context import Context
from service.deadline import unlimited
from service.errors import InvalidRequest, Problem
from service.operations import delivering
from service.store import deliveries, endpoint_states
from service.store.deliveries import AttemptRow, Due

LEASE_SECONDS = 60.0  # after which a laptop that has died gets nothing noted any more
RENEW_SECONDS = 15.0
LOOK_SECONDS = 0.5


@asynccontextmanager
async def listening(ctx: Context, url: str, events: Sequence[str], secret: str) -> AsyncIterator[Laptop]:
    """Note these events for `url`, signed with `secret`, while inside. What was not delivered then ends.

    Raises InvalidRequest for what is no address, and DatabaseUnavailable.
    """
    host = ssrf.plain(urlsplit(url).hostname or "")
    why = ssrf.complaint(url, (host,)) if host else "names no host"
    if why:
        raise InvalidRequest([Problem("", f"the address {why}")])
    sends_as = {"webhook_secrets": (secret,), "webhook_private_hosts": (host,)}
    mine = replace(ctx, settings=ctx.settings.model_copy(update=sends_as))
    own = f"{url}#{token_hex(4)}"  # a fragment is never sent: two laptops may both listen at localhost
    laptop = Laptop(mine, own, events, await endpoint_states.listen(ctx.database, own, events, LEASE_SECONDS))
    try:
        yield laptop
    finally:
        await endpoint_states.stop(ctx.database, laptop.endpoint_id)


@dataclass
class Laptop:
    """A machine that listens, for as long as it renews its lease. `ctx`: with the settings that it sends with."""

    ctx: Context
    url: str
    events: Sequence[str]
    endpoint_id: int

    async def forward(self, on_done: Callable[[Due, AttemptRow], None]) -> None:
        """Send what comes, until cancelled. `on_done` is called with each attempt, and what it came to."""
        ctx, renewed = self.ctx, self.ctx.monotonic()
        while True:
            if ctx.monotonic() - renewed >= RENEW_SECONDS:
                renewed = ctx.monotonic()
                await self._renew()
            first = await deliveries.claim(ctx.database, delivering.SLOTS, endpoint_id=self.endpoint_id)
            await delivering.attempt(ctx, unlimited(ctx.monotonic), first, on_done=on_done)
            await ctx.sleep(LOOK_SECONDS)

    async def _renew(self) -> None:
        """A machine that slept has been forgotten meanwhile, and begins again."""
        database = self.ctx.database
        if not await endpoint_states.renew(database, self.endpoint_id, LEASE_SECONDS):
            self.endpoint_id = await endpoint_states.listen(database, self.url, self.events, LEASE_SECONDS)
