"""The wire to Runway: what is written travels by itself, whatever becomes of the one who wrote it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from service.simulator.app import FAULT_HEADER

if TYPE_CHECKING:
    from tests.crash.schedules.processes import Process

# What Runway may do with a request of this kind; what becomes of connections is the schedule's.
FAULTS = {
    "POST": ("status=500", "status=503", "status=429", "status=401", "status=400", "no_credits", "body=garbage",
             "accepted_status=504", "fail=INTERNAL", "fail=SAFETY.INPUT.TEXT", "empty", "vanish", "throttled",
             "cancelled", "backwards"),
    "GET": ("status=500", "body=garbage", "status=404,body=html", "key_revoked"),
    "DELETE": ("status=500", "status=404,body=html"),
}  # fmt: skip


class Wire(httpx.AsyncBaseTransport):
    """A transport of httpx's for one client of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Write the request, and wait for what comes back."""
        simulation = self._process.simulation
        what = f"{request.method} {simulation.short(request.url.path)}"
        body = await request.aread()
        order = await self._process.switch(f"write {what}")
        if order == "lost before":
            raise httpx.ConnectError("no connection")
        answer: asyncio.Future[httpx.Response] = simulation.loop.create_future()
        whole = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        simulation.network.start(_travel(self._process, whole, what, answer))
        if order == "dies after":
            await self._process.die()
        return await answer


async def _travel(sender: Process, request: httpx.Request, what: str, answer: asyncio.Future[httpx.Response]) -> None:
    """The way of one request, and of its answer."""
    simulation = sender.simulation
    try:
        if await simulation.network.switch(f"arrival of {what} from {sender.name}") == "lost before":
            raise httpx.ReadError("the connection was lost under way")
        faults = FAULTS[request.method]
        if (number := simulation.decisions.unusual(simulation.nature.faults, len(faults))) != 0:
            request.headers[FAULT_HEADER] = faults[number - 1]
            simulation.note(f"    Runway: {faults[number - 1]}")
        response = await simulation.runway_transport.handle_async_request(request)
        simulation.arrived(request)
        if await simulation.network.switch(f"answer to {what} for {sender.name}") == "lost before":
            raise httpx.ReadError("the answer was lost")
    except httpx.ReadError as exc:
        if not answer.done():
            answer.set_exception(exc)
    else:
        if not answer.done():
            answer.set_result(response)
    if not answer.cancelled():
        answer.exception()  # nobody may wait for it any more
