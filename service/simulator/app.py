"""A double of Runway's API: the same paths, bodies and statuses, without a key and without a bill.

It serves every endpoint that makes a task, for the models of Runway's SDK, the life of the tasks, files of the right
kinds, uploads, credits and usage, and faults on demand. Runway's own client sees no difference. Sources: Runway's
Python SDK 5.24, its OpenAPI of 2024-11-06, and captured answers of the live API.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.simulator.account import Account
from service.simulator.catalogue import TYPES, media, validate
from service.simulator.control import Control
from service.simulator.created import created
from service.simulator.encoder import encode
from service.simulator.faults import Fault, On
from service.simulator.file import file_response
from service.simulator.ledger import Entry
from service.simulator.memory import Memory, keep_nothing
from service.simulator.options import SimulatorOptions
from service.simulator.outputs import MEDIA_TYPES
from service.simulator.relay import Relay, default_client
from service.simulator.rules import Issue, custom
from service.simulator.state import Runway
from service.simulator.tasks import Task
from service.simulator.uploads import FETCH_FAILED, SCHEME
from service.simulator.wire import (
    NO_TASK,
    HangUp,
    disguise,
    error_of,
    expose_transport,
    gate,
    invalid,
    problem,
    read_json,
    refused,
    with_request_id,
    wrong_host,
)

__all__ = ["Simulator", "SimulatorOptions", "create_simulator"]

FAULT_HEADER = "x-simulate"

Work = Callable[[], Response]
Sleep = Callable[[float], Awaitable[None]]
Keep = Callable[[], Awaitable[None]]


class Simulator(Starlette):
    """The application. `state.runway` is the account; `state.relay` delivers callbacks, or is None."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI call; every answer gets the id of Runway's gateway."""
        if scope["type"] == "http":
            expose_transport(scope, send)
            send = with_request_id(send, self.state.runway.random)
        await super().__call__(scope, receive, send)


class Endpoints:
    """Runway's own endpoints over one state. `keep` returns when the state is in the memory, if there is one."""

    def __init__(self, runway: Runway, sleep: Sleep, keep: Keep) -> None:
        self._runway, self._sleep, self._keep = runway, sleep, keep

    def routes(self) -> list[Route]:
        """For the application's table of routes."""
        ends = {"workflows": "/{id}"}
        creates = [Route(f"/v1/{name}{ends.get(name, '')}", self.create, methods=["POST"]) for name in TYPES]
        return [
            *creates,
            Route("/v1/tasks/{id}", self.task, methods=["GET", "DELETE"]),
            Route("/v1/workflow_invocations/{id}", self.task, methods=["GET"]),
            Route("/outputs/{name}", self.output, methods=["GET"], name="output"),
        ]

    async def create(self, request: Request) -> Response:
        """Make a task. Every call is in the ledger, whatever comes of it."""
        body, readable = read_json(await request.body())
        fault = self._fault(request, "create")
        entry = self._runway.ledger.open(self._runway.clock(), request.url.path, body, fault.words)

        def work() -> Response:
            return self._make(request, body, entry, fault) if readable else problem(400, "Invalid JSON in body")

        answer = await self._perform(request, fault, work)
        entry.status = None if isinstance(answer, HangUp) else answer.status_code
        await self._keep()
        return answer

    def _make(self, request: Request, body: object, entry: Entry, fault: Fault) -> Response:
        path = request.url.path.removeprefix("/v1/")
        operation = "workflows" if path.startswith("workflows/") else path
        if issues := validate(operation, body):
            return invalid(issues)
        assert isinstance(body, dict)  # noqa: S101  # nothing else is valid
        if gone := self._gone_uploads(operation, body):
            return invalid(gone)
        made = self._runway.create(operation, body, entry, fault.fate)
        return JSONResponse(created(operation, body, made)) if isinstance(made, Task) else refused(made)

    def _gone_uploads(self, operation: str, body: dict[str, Any]) -> list[Issue]:
        """An issue for each file that was never uploaded, or too long ago."""
        return [
            custom(FETCH_FAILED, path)
            for path, _, uri in media(operation, body)
            if uri.startswith(SCHEME) and not self._runway.uploads.has(uri)
        ]

    async def task(self, request: Request) -> Response:
        """Show a task, or cancel or delete it; show an invocation of a workflow."""
        deleting = request.method == "DELETE"
        fault = self._fault(request, "delete" if deleting else "retrieve")

        def work() -> Response:
            task = self._runway.find(request.path_params["id"])
            if task is None or fault.fate.end == "vanish" or not request.url.path.startswith(task.shown_at):
                return JSONResponse(NO_TASK, 404)
            if deleting:
                self._runway.delete(task)
                return Response(status_code=204)
            return JSONResponse(self._runway.show(task, lambda task: self._output_urls(request, task)))

        answer = await self._perform(request, fault, work)
        if deleting or fault.words:
            await self._keep()
        return answer

    async def output(self, request: Request) -> Response:
        """A file of a task, for a caller with a URL that has not expired. Needs no key."""
        name = request.path_params["name"]
        task = self._runway.find(name.partition(".")[0])
        token = request.query_params.get("_jwt", "")
        if task is None or name not in _names(task) or not self._runway.token_allows(token, task.id):
            return Response("Access denied", 403)
        seed, _, kind = name.rpartition(".")
        content = await anyio.to_thread.run_sync(encode, kind, seed, task.ratio, task.entry.prompt or "")
        return file_response(content, MEDIA_TYPES[kind], request.headers.get("range"))

    def _fault(self, request: Request, on: On) -> Fault:
        try:
            return self._runway.faults.take(on, request.headers.get(FAULT_HEADER))
        except ValueError as exc:
            raise HTTPException(400, str(exc)) from None

    async def _perform(self, request: Request, fault: Fault, work: Work) -> Response:
        await self._wait(fault.slow)
        if fault.drop == "before":
            return HangUp(fault.reset)
        if fault.refusal is not None:
            return refused(fault.refusal)
        if fault.status is not None:
            return error_of(fault.status, fault)
        answer = gate(request, self._runway.options) or work()
        await self._wait(fault.stall)
        return disguise(answer, fault)

    async def _wait(self, seconds: float) -> None:
        """What happened before is remembered, should the process end while a fault makes the caller wait."""
        if seconds:
            await self._keep()
        await self._sleep(seconds)

    def _output_urls(self, request: Request, task: Task) -> list[str]:
        token = self._runway.sign(task.id)
        return [f"{request.url_for('output', name=name)}?_jwt={token}" for name in _names(task)]


def _names(task: Task) -> list[str]:
    """The names of a task's files; the first is that of the task."""
    return [f"{task.id}.{index}.{kind}" if index else f"{task.id}.{kind}" for index, kind in enumerate(task.files)]


def create_simulator(
    options: SimulatorOptions | None = None,
    *,
    clock: Callable[[], float] = time.time,
    random: Random | None = None,
    sleep: Sleep = anyio.sleep,
    memory: Path | None = None,
    relay_client: Callable[[], httpx.AsyncClient] = default_client,
) -> Simulator:
    """The double as an ASGI application.

    `clock` in Unix seconds decides about tasks and URLs; `sleep` serves the faults that are slow; `memory` is
    the file from which it goes on; `relay_client` makes the client that delivers callbacks.
    """
    options = options or SimulatorOptions()
    runway = Runway(options, clock, random or Random())  # noqa: S311  # chance, not secrecy
    keep: Keep = keep_nothing
    if memory:
        remembered = Memory(memory, runway.save, runway.load)
        remembered.recall()
        keep = remembered.keep
    relay = None
    if options.relay_url and options.relay_secret:
        relay = Relay(runway, options.relay_url, options.relay_secret, relay_client)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            if relay:
                group.start_soon(relay.relay_forever)
            yield
            group.cancel_scope.cancel()
        await keep()

    app = Simulator(
        routes=[
            *Endpoints(runway, sleep, keep).routes(),
            *Account(runway, keep).routes(),
            *Control(runway, keep).routes(),
        ],
        exception_handlers={HTTPException: _http_problem},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.runway, app.state.relay = runway, relay
    return app


async def _http_problem(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101  # the only class it is registered for
    return wrong_host(request.url.hostname) or problem(exc.status_code, exc.detail)
