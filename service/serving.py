"""Serving an ASGI app with uvicorn, and ending well on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from service import event_loop
from service.app import create_app
from service.connections import ACCEPTED_AT_ONCE, BACKLOG, bounded, most_connections
from service.context import Context
from service.errors import BadSettings

log = logging.getLogger(__name__)

MARGIN_SECONDS = 10


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the process listens to signals, once, for all its servers.

    uvicorn's own would fight over them when two serve in one process, and would end the process by the signal
    after the last response, where platforms and supervisors look for exit code 0.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with room for many connections in the kernel, of which few are taken at once."""
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(BACKLOG)


def server(app: Starlette, host: str, port: int, *, timeout: float = 5) -> Server:
    """A server that lets the app know when it is stopping, and waits `timeout` seconds for requests in flight."""
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=int(timeout), http=bounded(AutoHTTPProtocol, most_connections()),
        backlog=ACCEPTED_AT_ONCE,
    )  # fmt: skip
    built = Server(config)
    app.state.stopping = lambda: built.should_exit
    return built


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError; `errno.EADDRINUSE` when another process has the port.

    It names its protocol, which `create_server` leaves at 0: only then does asyncio switch Nagle's algorithm off, which
    holds back the end of an answer until the caller has acknowledged its beginning: 40 ms.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())


def serve(ctx: Context, host: str, port: int) -> None:
    """Serve the web process. What was sent to Runway is finished before it ends, as far as the platform waits."""
    serve_app(create_app(ctx), host, port, timeout=ctx.settings.post_timeout + MARGIN_SECONDS)


def serve_app(app: Starlette, host: str, port: int, *, timeout: float = 5) -> None:
    """Serve any app until SIGTERM or SIGINT. Raises BadSettings if the port cannot be had."""
    try:
        listener = listen(host, port)
    except OSError as exc:
        where = f"port {port} on {host} is in use or may not be used ({exc.strerror or exc})"
        raise BadSettings([f"{where}: choose another with --host and --port"]) from exc
    with listener:
        event_loop.run(_until_signalled(server(app, host, port, timeout=timeout), listener))


async def _until_signalled(built: Server, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn's own answer: the first ends it well, a second Ctrl-C at once.
        loop.add_signal_handler(number, built.handle_exit, number, None)
    host, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    await built.serve(sockets=[listener])
