"""`taxiway upload`: a file into Runway's own storage, for a request that names it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.console import fail, run_quietly
from service.commands.output import AsJson, print_json, prints_table, say
from service.context import Context

if TYPE_CHECKING:
    from service.operations.uploading import Upload

cli = typer.Typer()

SEND_SECONDS = 60.0  # without a byte that goes on


@cli.command()
def upload(
    file: Annotated[Path, typer.Argument(help="An image, video or sound.")],
    as_json: AsJson = False,
) -> None:
    """Upload a file to Runway, and print the address that stands for it in a request, for 24 hours."""
    as_table = prints_table(as_json)
    if not file.is_file():
        fail(f"taxiway: {file} is not a file")

    async def work(ctx: Context) -> Upload:
        return await send(ctx, file)

    sent: Upload = run_quietly(work)
    if as_table:
        print(sent.uri)
        say(f"it dies at {sent.expires_at:%Y-%m-%d %H:%M} UTC; a video that names it expires by then")
    else:
        print_json([{"uri": sent.uri, "expires_at": sent.expires_at.isoformat()}])


async def send(ctx: Context, path: Path) -> Upload:
    """Upload this file. Ends the command where the storage does not take it; raises as `uploading.begin`."""
    import httpx

    from service.operations import uploading

    form = await uploading.begin(ctx, path.name)
    content = await asyncio.to_thread(path.read_bytes)
    transport = ctx.transport() if ctx.transport else None
    try:
        async with httpx.AsyncClient(transport=transport, timeout=SEND_SECONDS) as client:
            answer = await client.post(form.upload_url, data=form.fields, files={"file": (path.name, content)})
            answer.raise_for_status()
    except httpx.HTTPStatusError as exc:
        fail(f"taxiway: {path} was not uploaded: Runway's storage answers {exc.response.status_code}; try again")
    except httpx.HTTPError as exc:
        fail(f"taxiway: {path} was not uploaded: {type(exc).__name__} {exc}".rstrip() + "; try again")
    return form
