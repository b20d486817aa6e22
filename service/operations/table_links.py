"""Link tables of the app, list the links, and undo one: over one connection, between whose statements people answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.context import Context
from service.errors import NotConfigured
from service.installer import linking
from service.installer.inspect import Connection, LinkRefused, likely
from service.installer.link_connection import connected
from service.installer.linking import Linked, LinkState, Unlinked
from service.installer.plan import IS_MIGRATED, Plan, Wishes, make_plan
from service.installer.plan_answers import Answers
from service.settings import Settings, need


@dataclass(frozen=True)
class Links:
    """The links of one database."""

    connection: Connection
    settings: Settings

    async def only_table(self) -> str:
        """The one relation with a status and a prompt, where none was named. Raises LinkRefused."""
        names = await likely(self.connection)
        if len(names) != 1:
            found = f"there are several: {', '.join(names)}" if names else "no table has a status and a prompt"
            raise LinkRefused(f"name the table to link: {found}")
        return names[0]

    async def plan(self, table: str, answers: Answers, wishes: Wishes) -> Plan:
        """What linking this table would do, and what is still to be answered. Nothing is changed."""
        return await make_plan(self.connection, table, answers, self.settings, wishes)

    async def link(self, plan: Plan) -> Linked:
        """Do what the plan says. Raises LinkRefused, having changed nothing, for a plan with open questions."""
        return await linking.apply(self.connection, plan, self.settings)

    async def every(self) -> list[LinkState]:
        """Every link, also those that were undone. Raises NotConfigured before the first `taxiway migrate`."""
        await self._need_schema()
        return await linking.links(self.connection)

    async def find(self, name: str) -> LinkState:
        """The link of this name. Raises NotFound, and NotConfigured before the first `taxiway migrate`."""
        await self._need_schema()
        return await linking.find(self.connection, name)

    async def unlink(self, name: str, *, cancel: bool) -> Unlinked:
        """Undo a link: what is under way is finished, or with `cancel` cancelled. Raises NotFound and Conflict."""
        return await linking.unlink(self.connection, name, cancel=cancel)

    async def _need_schema(self) -> None:
        if not await self.connection.fetchval(IS_MIGRATED):
            raise NotConfigured("this database has no schema taxiway yet: run `taxiway migrate`")


@asynccontextmanager
async def links(ctx: Context) -> AsyncIterator[Links]:
    """The links of the database of DATABASE_URL. Raises NotConfigured without one, and DatabaseUnavailable."""
    need(ctx.settings, "database_url")
    async with connected(ctx.settings.database_url or "") as connection:
        yield Links(connection, ctx.settings)
