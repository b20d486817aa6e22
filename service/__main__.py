"""The command line: `taxiway` or `python -m service`.

Errors are one line each. Exit code 1: it failed; 2: it was not understood.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated

import typer

from service import version_of_package
from service.commands import beside
from service.commands.console import fail, one_line_errors, own_context, run
from service.commands.help import Groups
from service.context import Context
from service.tick_report import TickReport

cli = typer.Typer(
    cls=Groups, help="The durable queue in front of Runway.", no_args_is_help=True, pretty_exceptions_enable=False,
    rich_markup_mode=None, add_completion=True,
)  # fmt: skip
# What a cron or a platform starts again and again does without the other commands: they take a twentieth of its start.
if sys.argv[1:2] not in (["web"], ["worker"], ["tick"], ["poll"]):
    from service.commands import (
        change,
        enqueue,
        erase,
        install,
        link,
        list_videos,
        listen,
        notify,
        operate,
        pause,
        print_docs,
        recipe,
        running,
        show,
        stats,
        upload,
        wait,
    )

    groups = (
        list_videos,
        show,
        enqueue,
        upload,
        wait,
        change,
        erase,
        running,
        pause,
        stats,
        install,
        link,
        notify,
        listen,
        operate,
        recipe,
        print_docs,
    )
    for group in groups:
        cli.add_typer(group.cli)


def _version(asked: bool) -> None:
    if asked:
        print(f"taxiway {version_of_package()}")
        raise typer.Exit


@cli.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    data: Annotated[
        Path, typer.Option(help="Folder of the `taxiway dev` whose database is used without DATABASE_URL.")
    ] = beside.FOLDER,
) -> None:
    """The durable queue in front of Runway."""
    beside.chosen.set(data)


Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
Every = Annotated[float, typer.Option(min=0.1, help="Seconds between two rounds.")]
Budget = Annotated[float | None, typer.Option(min=0.1, help="Seconds in which to be done; TICK_BUDGET by default.")]


@cli.command()
def web(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Serve HTTP: the API, the cron routes, callbacks and health."""
    from service.serving import serve

    with one_line_errors():
        serve(own_context(), host, port)


@cli.command()
def worker(
    every: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds between ticks; WORKER_INTERVAL by default.")
    ] = None,
) -> None:
    """Run ticks in a loop until SIGTERM, woken at once by new videos. For hosts with a resident process."""
    from service.runway.client import load
    from service.worker import Stop, signals, work_forever

    async def work(ctx: Context) -> None:
        # What is loaded stays: a search for garbage among all of it would hold up a create for tens of milliseconds.
        load()
        gc.freeze()
        stop = Stop()
        with signals(stop):
            await work_forever(ctx, every=every or ctx.settings.worker_interval, stop=stop)

    run(work)


@cli.command()
def tick(budget: Budget = None) -> None:
    """Run one tick, print its counts as one line of JSON. For cron services that run commands."""
    from service.tick import tick as tick_once

    _print_report(run(lambda ctx: tick_once(ctx, budget=budget)))


@cli.command()
def poll(
    budget: Budget = None,
    every: Annotated[
        float | None, typer.Option(min=0.1, help="Go on until SIGTERM, with so many seconds in between.")
    ] = None,
) -> None:
    """Poll the tasks that are due, and do nothing else. Once, or in a loop with --every."""
    from service.tick import poll_only
    from service.worker import Stop, run_forever, signals

    async def forever(ctx: Context) -> None:
        stop = Stop()
        with signals(stop):
            await run_forever(ctx, lambda: poll_only(ctx), every=every or 1.0, stop=stop)

    if every is None:
        _print_report(run(lambda ctx: poll_only(ctx, budget=budget)))
    else:
        run(forever)


def _print_report(report: TickReport) -> None:
    print(json.dumps(report.as_json()))
    if report.errors:
        raise typer.Exit(1)


@cli.command()
def callback(
    task_id: Annotated[str, typer.Argument(help="The id of a task at Runway.")],
    url: Annotated[str, typer.Option(help="Where Taxiway listens.")] = "http://127.0.0.1:8000/callbacks/runway",
    video: Annotated[str | None, typer.Option(help="The video that the task is evidence for.")] = None,
) -> None:
    """Send a signed callback, as a relay would: with the first of CALLBACK_SECRETS."""
    import httpx

    from service import webhooks
    from service.settings import need

    async def work(ctx: Context) -> httpx.Response:
        need(ctx.settings, "callback_secrets")
        data = {"task_id": task_id} | ({"video_id": video} if video else {})
        body = json.dumps({"type": "task.updated", "data": data}).encode()
        headers = webhooks.headers(ctx.settings.callback_secrets[0], f"msg_{uuid.uuid4().hex}", int(time.time()), body)
        async with httpx.AsyncClient(timeout=30) as client:
            try:
                return await client.post(url, content=body, headers=headers | {"content-type": "application/json"})
            except (httpx.HTTPError, httpx.InvalidURL) as exc:
                fail(f"taxiway: {url} does not answer: {type(exc).__name__} {exc}".rstrip())

    response = run(work)
    print(response.text)
    if response.status_code >= 400:
        raise typer.Exit(1)


@cli.command()
def simulate(
    host: Host = "127.0.0.1",
    port: Port = 8099,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster than Runway.")] = 1.0,
    tier: Annotated[int, typer.Option(min=1, max=5, help="Runway's tier: concurrency and daily limits.")] = 3,
    credits: Annotated[int, typer.Option(min=0, help="Credits to begin with.")] = 10_000,
    relay_url: Annotated[str | None, typer.Option(help="Send signed callbacks there, as a relay would.")] = None,
) -> None:
    """Run the Runway simulator alone. With --relay-url, callbacks are signed with the first of CALLBACK_SECRETS."""
    from service.serving import serve_app
    from service.settings import need

    with one_line_errors():
        ctx = own_context()
        if relay_url:
            need(ctx.settings, "callback_secrets")
        from service.simulator.app import create_simulator
        from service.simulator.options import SimulatorOptions

        secret = ctx.settings.callback_secrets[0] if relay_url else None
        options = SimulatorOptions(speed=speed, tier=tier, credits=credits, relay_url=relay_url, relay_secret=secret)
        print(f"Runway simulator on http://{host}:{port} (RUNWAYML_BASE_URL), any key that begins with key_")
        serve_app(create_simulator(options), host, port)


@cli.command()
def dev(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port; the next free one is taken if it is in use.")
    ] = 8000,
    data: Annotated[Path, typer.Option(help="Folder of the database and the generated secrets.")] = Path(".taxiway"),
    every: Every = 2.0,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster than Runway the simulator is.")] = 2.0,
    fresh: Annotated[bool, typer.Option(help="Begin with an empty database.")] = False,
    relay: Annotated[bool, typer.Option(help="Let the simulator send signed callbacks; Runway sends none.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print the whole log, and not a line for each video.")
    ] = False,
) -> None:
    """Everything on this machine: PostgreSQL, Runway (simulated unless a key is set), the service, and its cron."""
    from service.local.dev import Options, run

    with one_line_errors():
        run(Options(port=port, data=data, every=every, speed=speed, fresh=fresh, relay=relay, verbose=verbose))


def main() -> None:
    """The entry point."""
    cli(prog_name="taxiway")


if __name__ == "__main__":
    main()
