"""Commands that show what runs: `status`, `open`, `logs`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands import beside, ids
from service.commands.console import fail, run_quietly
from service.commands.output import AsJson, console, prints_table
from service.context import Context

if TYPE_CHECKING:
    from service.doctor.checks import Check

cli = typer.Typer()

LOOK_SECONDS = 0.2
NO_STACK = "taxiway: no `taxiway dev` runs in {folder}: start one, or name its data folder with `taxiway --data FOLDER`"


@cli.command()
def status(as_json: AsJson = False) -> None:
    """Whether videos get through: queue, ticks, paused models, linked tables. Exit code 1 if a check is an error."""
    from service.doctor import report
    from service.doctor.checks import CheckStatus, worst

    async def work(ctx: Context) -> list[Check]:
        return await report.status(ctx)

    checks: list[Check] = run_quietly(work)
    overall = worst(checks)
    if prints_table(as_json):
        from service.commands.check_table import drawn

        stack = beside.find()
        console().print(drawn(checks, heading=f"taxiway dev at {stack.url}" if stack else None))
    else:
        print(json.dumps({"status": overall.value, "checks": [asdict(check) for check in checks]}))
    if overall is CheckStatus.ERROR:
        raise typer.Exit(1)


@cli.command("open")
def open_(
    only_print: Annotated[bool, typer.Option("--print", help="Print the link, and open nothing.")] = False,
) -> None:
    """Open the page of the `taxiway dev` beside you in a browser, logged in."""
    import webbrowser

    stack = beside.find()
    if stack is None:
        fail(NO_STACK.format(folder=beside.chosen.get()))
    if only_print or not webbrowser.open(stack.login):
        print(stack.login)
    else:
        print(f"opened {stack.url}")


@cli.command()
def logs(
    video: Annotated[
        str | None, typer.Argument(metavar="VIDEO", parser=ids.parse, help=f"{ids.HELP} Only the lines about it.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 100,
) -> None:
    """The log of the `taxiway dev` beside you, with every detail. Elsewhere the log is on stderr of each process."""
    folder = beside.chosen.get()
    path = folder / beside.LOG_NAME
    if not path.exists():
        fail(f"taxiway: there is no log in {folder}: `taxiway dev` writes it; elsewhere, see your host's log")
    for line in _lines(path, video, lines, follow=follow):
        print(line, flush=follow)


def _lines(path: Path, digits: str | None, most: int, *, follow: bool) -> Iterator[str]:
    """The last lines that are meant; with `follow`, also what comes. A log that begins again is read from its start."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from [line for line in file.read().splitlines() if _is_about(line, digits)][-most:]
        while follow:
            if path.stat().st_size < file.tell():
                file.seek(0)
            place = file.tell()
            line = file.readline()
            if not line.endswith("\n"):
                file.seek(place)  # nothing, or a line that is being written
                time.sleep(LOOK_SECONDS)
            elif _is_about(line, digits):
                yield line.rstrip("\n")


_VIDEO = re.compile(r'\bvideo[="\': ]+([0-9a-f-]{36})')


def _is_about(line: str, digits: str | None) -> bool:
    return digits is None or any(one.replace("-", "").startswith(digits) for one in _VIDEO.findall(line))
