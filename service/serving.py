"""Serving an ASGI app with uvicorn, and ending well on SIGTERM."""

from __future__ import annotations

import uvicorn
from starlette.applications import Starlette

from service.app import create_app
from service.errors import BadSettings
from service.house import House

MARGIN_SECONDS = 10


def server(app: Starlette, host: str, port: int, *, patience: float = 5) -> uvicorn.Server:
    """A uvicorn server that tells the app when it is stopping, and waits `patience` seconds for requests in flight."""
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=int(patience),
    )  # fmt: skip
    built = uvicorn.Server(config)
    app.state.stopping = lambda: built.should_exit
    return built


def serve(house: House, host: str, port: int) -> None:
    """Serve the web process. What was sent to Runway is finished before it ends, as far as the platform waits."""
    serve_app(create_app(house), host, port, patience=house.settings.post_timeout + MARGIN_SECONDS)


def serve_app(app: Starlette, host: str, port: int, *, patience: float = 5) -> None:
    """Serve any app until SIGTERM or SIGINT."""
    built = server(app, host, port, patience=patience)
    built.run()
    if not built.started:
        raise BadSettings([f"port {port} on {host} is in use or may not be used: choose another with --port"])
