"""The client of Runway's API. A create is sent once, whatever happens; nothing here retries anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from multidict import CIMultiDict
from pydantic import ValidationError

from service import response_parsing
from service.errors import RunwayUnavailable
from service.logs import RUNWAY, event
from service.runway.account import Account
from service.runway.outcomes import Broken, HttpResult
from service.runway.task import Task
from service.runway.transport import AiohttpTransport, ConnectionTrace, Content, Response, Transport, current
from service.settings import Settings

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

API_VERSION = "2024-11-06"  # the only current one; required on every call
RETRIEVE_SECONDS = 20.0  # a GET or DELETE touches no asset: an answer later than this is no answer
CLOSE_SECONDS = 0.5  # what is left of an answer that is read, or not wanted, is not waited for longer
PIECE_BYTES = 65_536  # a body with an image inside goes out piece by piece, so that other calls go on meanwhile
LARGEST_ANSWER_BYTES = 1_000_000
LONGEST_RETRY_AFTER_SECONDS = 86_400.0

_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_SECONDS = re.compile(r"[0-9]{1,9}")


class Runway:
    """One short-lived client: opened for a tick or a request, closed with it: no connection outlives a freeze."""

    def __init__(
        self,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | Transport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = settings.runway_url
        self._transport = _transport(transport, self.url, settings.submit_concurrency + settings.poll_concurrency)
        self._monotonic = monotonic
        self._redact = settings.redactor  # what Runway says is kept and shown; a gateway may repeat what it was sent
        self._headers = CIMultiDict(settings.custom_headers)
        self._headers.update(
            {
                "Authorization": f"Bearer {settings.runway_key}",
                "X-Runway-Version": API_VERSION,
                "Content-Type": "application/json",
                "Accept": "application/json",
                # Left to itself, aiohttp may offer an encoding that httpx cannot read: every answer would be lost.
                "Accept-Encoding": "identity",
                "User-Agent": "taxiway",
            }
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def create(
        self, operation: str, body: dict[str, Any] | str, *, give_up_at: float, video: object = None
    ) -> HttpResult | Broken:
        """Send one create; `body`: an object, or its JSON.

        `give_up_at`: on this client's clock; past it nothing is sent, or the call is cut off.
        """
        path = f"/v1/{operation}"
        if log.isEnabledFor(logging.INFO):  # asked first: a message that is not logged is not built
            event(log, RUNWAY, "request_starting", "Request starting", video=video)
            event(log, RUNWAY, "endpoint_called", f"Endpoint called: POST {self.url}{path}", video=video)
        seconds = give_up_at - self._monotonic()
        if seconds <= 0:
            return Broken("the time for this call was over before it began", sent=False)
        result = await self._call("POST", path, seconds, body)
        if isinstance(result, HttpResult):
            event(log, RUNWAY, "response_status", f"Response status: {result.status}", video=video)
        else:
            event(log, RUNWAY, "no_response", f"No response: {result.error}", level=logging.WARNING, video=video)
        return result

    async def retrieve(self, task_id: str) -> Task | None:
        """One poll of a task; None if Runway does not know it. Raises RunwayUnavailable when that cannot be said."""
        answer = await self._ask("GET", task_id, 200)
        if answer is None:
            return None
        try:
            task = Task.of(answer.body)
        except ValidationError as exc:
            raise RunwayUnavailable(f"Runway's answer about task {task_id} cannot be read") from exc
        if task.fitted:
            words = f"Runway's answer did not fit, and is not kept as it was: {', '.join(task.fitted)}"
            event(log, RUNWAY, "fitted", words, level=logging.WARNING, task=task_id)
        if task.id.lower() != task_id.lower():
            raise RunwayUnavailable(f"Asked about task {task_id}, Runway answered about another")
        return task

    async def delete(self, task_id: str) -> bool:
        """Cancel or delete a task. True: it was there; False: gone already. Raises RunwayUnavailable otherwise."""
        return await self._ask("DELETE", task_id, 204) is not None

    async def organization(self) -> Account:
        """The account behind the key, as Runway describes it. It costs nothing.

        Raises RunwayUnavailable; its `extra` has `runway_status` if there was an answer, also a 200 that is no account.
        """
        path = "/v1/organization"
        answer = await self._whole("GET", path)
        said = response_parsing.read(answer.body)
        if answer.status != 200 or "creditBalance" not in said:
            raise self._not_that("GET", path, answer)
        return Account.of(said)

    async def _ask(self, method: str, task_id: str, wanted: int) -> HttpResult | None:
        """The answer if it has the `wanted` status; None if Runway itself says that there is no such task."""
        if not _TASK_ID.fullmatch(task_id):
            return None  # it comes from a table or a callback: no task of Runway's, and it could change the path
        path = f"/v1/tasks/{task_id}"
        answer = await self._whole(method, path)
        if answer.status == 404 and b"Could not find Task" in answer.body:
            return None
        if answer.status != wanted:
            raise self._not_that(method, path, answer)
        return answer

    async def _whole(self, method: str, path: str) -> HttpResult:
        """An answer that was read to its end, whatever it says."""
        answer = await self._call(method, path, RETRIEVE_SECONDS)
        if isinstance(answer, Broken):
            raise RunwayUnavailable(f"{method} {self.url}{path}: {answer.error}")
        if answer.torn is not None:
            raise RunwayUnavailable(f"{method} {self.url}{path}: the answer broke off: {answer.torn}")
        return answer

    def _not_that(self, method: str, path: str, answer: HttpResult) -> RunwayUnavailable:
        words = self._redact(answer.body[:300].decode("utf-8", "replace"))
        return RunwayUnavailable(
            f"{method} {self.url}{path} answered {answer.status}: {words}", runway_status=answer.status
        )

    async def _call(
        self, method: str, path: str, seconds: float, body: dict[str, Any] | str | None = None
    ) -> HttpResult | Broken:
        trace = ConnectionTrace(self._monotonic)
        token = current.set(trace)
        started = self._monotonic()
        response: Response | None = None
        chunks: list[bytes] = []
        torn: str | None = None
        try:
            async with asyncio.timeout(seconds):
                response = await self._transport.open(method, self.url + path, *self._request(body))
                await response.read(chunks, LARGEST_ANSWER_BYTES)  # what is longer is cut, and so becomes unreadable
        except Exception as exc:
            error = self._redact(_why(exc, seconds, trace))
            if response is None:
                # Whatever it is: without proof that nothing was written, it may have been sent.
                return Broken(error, sent=trace.at is not None or not self._transport.traced)
            torn = error
        finally:
            current.reset(token)
            if response is not None and not response.done:
                await _close(response)
        whole = b"".join(chunks)
        request_id = response.headers.get("apigw-requestid")
        return HttpResult(
            response.status,
            self._redact.body(whole, is_cut=torn is not None or len(whole) >= LARGEST_ANSWER_BYTES),
            self._monotonic() - (started if trace.at is None else trace.at),
            request_id and self._redact(request_id),
            torn,
            _retry_after(response),
        )

    def _request(self, body: dict[str, Any] | str | None) -> tuple[Mapping[str, str], Content]:
        whole = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        if len(whole) <= PIECE_BYTES:
            return self._headers, whole
        headers = self._headers.copy()
        headers["Content-Length"] = str(len(whole))
        return headers, _pieces(whole)


def _transport(transport: httpx.AsyncBaseTransport | Transport | None, url: str, connections: int) -> Transport:
    if transport is None:
        return AiohttpTransport(url, connections)
    if isinstance(transport, AiohttpTransport):
        return transport
    from service.runway.injected import HttpxTransport

    return HttpxTransport(cast("httpx.AsyncBaseTransport", transport))


async def _pieces(whole: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(whole), PIECE_BYTES):
        yield whole[start : start + PIECE_BYTES]


def _why(exc: Exception, seconds: float, trace: ConnectionTrace) -> str:
    if type(exc) is TimeoutError:
        return f"no {'connection' if trace.at is None else 'complete answer'} within {seconds:.3g} s"
    return f"{type(exc).__name__}: {exc}".rstrip(": ")


async def _close(response: Response) -> None:
    """Let go of the connection. What goes wrong here changes nothing about the answer."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await response.close()


def _retry_after(response: Response) -> float | None:
    """Seconds, from `Retry-After`. Runway documents none: the form with a date is not worth a clock here."""
    value = response.headers.get("retry-after")
    return min(float(value), LONGEST_RETRY_AFTER_SECONDS) if value and _SECONDS.fullmatch(value) else None
