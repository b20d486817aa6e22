"""Answers, also those that no web framework wants to give: none at all, and half of one."""

from __future__ import annotations

import json
import socket
import struct
from asyncio import Transport
from http.client import responses
from random import Random
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from service.simulator.faults import Fault
from service.simulator.options import SimulatorOptions
from service.simulator.rules import Issue

API_VERSION = "2024-11-06"
DOC_URL = "https://docs.dev.runwayml.com/api"
WRONG_HOST_NAME = "api.runwayml.com"
TRANSPORT_KEY = "runway.transport"

# Runway's own words, as captured or documented; that of a disabled key has its form only.
WRONG_HOST = {
    "error": "Incorrect hostname for API key",
    "details": "You passed an API key to api.runwayml.com, which is not correct. "
    "The Runway public API is available at api.dev.runwayml.com instead.",
    "docUrl": DOC_URL,
}
WRONG_VERSION = {
    "error": "The API version that was provided in the X-Runway-Version header is not valid.",
    "docUrl": DOC_URL,
}
REFUSALS = {
    "no_credits": (400, {"error": "You do not have enough credits to run this task.", "docUrl": DOC_URL}),
    "daily_limit": (429, {"error": "Your daily task limit has been reached.", "docUrl": DOC_URL}),
    "key_revoked": (401, {"error": "This API key has been disabled.", "docUrl": DOC_URL}),
}
NO_TASK = {"error": "Could not find Task"}
STRANGE_BODIES = {
    "html": b"<html><head><title>Error</title></head><body><h1>Error</h1></body></html>",
    "none": b"",
    "garbage": b'{"id": "17f2',
    "no_id": b'{"ok": true}',
}


def refused(name: str) -> JSONResponse:
    """One of Runway's own refusals."""
    status, body = REFUSALS[name]
    return JSONResponse(body, status)


def wrong_host(host: str | None) -> Response | None:
    """What answers at the host that refuses every key."""
    return JSONResponse(WRONG_HOST, 401) if host == WRONG_HOST_NAME else None


def problem(status: int, error: str, **more: Any) -> JSONResponse:
    """An error in Runway's shape."""
    return JSONResponse({"error": error, **more, "docUrl": DOC_URL}, status)


def invalid(issues: list[Issue]) -> JSONResponse:
    """Everything that is wrong with a body."""
    return problem(400, "Validation of body failed", issues=issues)


def gate(request: Request, options: SimulatorOptions) -> Response | None:
    """What stands before every endpoint: host, key and version."""
    if wrong := wrong_host(request.url.hostname):
        return wrong
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if not key:
        return problem(401, "No API key was provided.")
    known = key.startswith("key_") if options.key is None else key == options.key
    if scheme.lower() != "bearer" or not known:
        return problem(401, "The API key that was provided is not valid.")
    if options.key_revoked:
        return refused("key_revoked")
    if request.headers.get("x-runway-version") != API_VERSION:
        return JSONResponse(WRONG_VERSION, 400)
    return None


def read_json(raw: bytes) -> tuple[object, bool]:
    """The value of a body, and whether it was JSON at all."""
    try:
        return json.loads(raw), True
    except ValueError:
        return None, False


def error_of(status: int, fault: Fault) -> Response:
    """An error that a fault asked for: Runway's own shape, or what a gateway in front of it says."""
    phrase = responses.get(status, "Error")
    answer: Response
    if fault.body == "bare":
        answer = JSONResponse({"message": phrase}, status)
    elif fault.body in STRANGE_BODIES:
        answer = _strange(fault.body, status)
    elif status == 404:
        answer = JSONResponse(NO_TASK, status)
    else:
        answer = problem(status, REFUSALS["daily_limit"][1]["error"] if status == 429 else phrase)
    if fault.retry_after is not None:
        answer.headers["retry-after"] = f"{fault.retry_after:g}"
    return answer


def disguise(answer: Response, fault: Fault) -> Response:
    """What the caller gets to see of an answer after the work was done."""
    if fault.drop == "after":
        return HangUp(fault.reset)
    if fault.accepted_status is not None and fault.accepted_status >= 300:
        answer = error_of(fault.accepted_status, fault)
    elif fault.accepted_status is not None:
        answer.status_code = fault.accepted_status
    if fault.body in STRANGE_BODIES:
        answer = _strange(fault.body, 200 if answer.status_code == 204 else answer.status_code)
    if fault.half and not answer.body:
        return HangUp(fault.reset)
    if fault.half:
        return HalfAnswer(answer.body, answer.status_code, media_type="application/json")
    return answer


def _strange(kind: str, status: int) -> Response:
    media_type = "text/html" if kind == "html" else "application/json"
    return Response(STRANGE_BODIES[kind], status, media_type=media_type)


class HangUp(Response):
    """No answer: the connection is closed."""

    def __init__(self, reset: bool = False) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ConnectionResetError where there is no connection to close."""
        await cut(scope, receive, reset=self._reset)


class HalfAnswer(Response):
    """The head and half of the body; then the connection is closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ConnectionResetError where there is no connection to close."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = self.body[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await cut(scope, receive)


async def cut(scope: Scope, receive: Receive, *, reset: bool = False) -> None:
    """Close the connection under the server's feet.

    ASGI has no word for this, so `expose_transport` has kept uvicorn's own. The server takes it for a caller
    that hung up, provided that the handler stays until it has noticed.
    """
    transport: Transport | None = scope.get(TRANSPORT_KEY)
    if transport is None:
        raise ConnectionResetError("the simulator hung up")
    if reset and (sock := transport.get_extra_info("socket")):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass


def expose_transport(scope: Scope, send: Send) -> None:
    """Keep a request's connection where `cut` finds it: uvicorn's `send` is a method of what holds it."""
    scope[TRANSPORT_KEY] = getattr(getattr(send, "__self__", None), "transport", None)


def with_request_id(send: Send, random: Random) -> Send:
    """Add the id that Runway's gateway gives to every answer."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    request_id = "".join(random.choices(alphabet, k=15)) + "="

    async def stamped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"apigw-requestid", request_id.encode())]
        await send(message)

    return stamped
