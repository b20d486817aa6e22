"""Commands that change what a database holds beside videos: `migrate`, `grant`."""

from __future__ import annotations

from typing import Annotated

import typer

from service import context as contexts
from service.commands.console import run
from service.commands.output import say
from service.context import Context
from service.settings import Settings, need

cli = typer.Typer()


def installer_url(settings: Settings) -> str:
    """The database as the role sees it that changes schemas. Raises NotConfigured without any."""
    if not settings.migrate_database_url:
        need(settings, "database_url")
    return settings.migrate_database_url or settings.database_url or ""


@cli.command()
def migrate(
    view: Annotated[
        bool | None,
        typer.Option("--view/--no-view", help="Make the view public.videos, for an app that uses SQL; or remove it."),
    ] = None,
) -> None:
    """Bring the schema taxiway up to date. Safe to repeat. Uses MIGRATE_DATABASE_URL, else DATABASE_URL."""
    from service.installer.migrate import migrate as apply
    from service.installer.view import make_view, remove_view
    from service.operations import delivering

    async def work(ctx: Context) -> None:
        url = installer_url(ctx.settings)
        done = await apply(url)
        print("\n".join(f"applied {name}" for name in done.applied) or "the schema is up to date")
        if done.newer:
            say(f"the database is newer than this version, which can work with it: {', '.join(done.newer)}")
        await delivering.configure(owner := contexts.build(ctx.settings.model_copy(update={"database_url": url})))
        await owner.database.close()
        if view:
            await make_view(url)
            print("made the view public.videos")
        elif view is False:
            print("removed the view public.videos" if await remove_view(url) else "there is no view public.videos")

    run(work)


@cli.command()
def grant(
    role: Annotated[str, typer.Argument(help="The role, which must exist.")],
    service: Annotated[bool, typer.Option("--service", help="For web and worker, instead of for an app.")] = False,
) -> None:
    """Give a role exactly the rights of an app: insert requests, read what is shown. Prints what it ran."""
    from service.installer.grants import grant as give

    async def work(ctx: Context) -> list[str]:
        return await give(installer_url(ctx.settings), role, service=service)

    print("\n".join(run(work)))
