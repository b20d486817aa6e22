"""The client of Runway's API. A create is sent once, whatever happens; nothing here retries anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import re
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from service import response_parsing
from service.errors import RunwayUnavailable
from service.logs import RUNWAY, event
from service.runway.account import Account
from service.runway.outcomes import Broken, HttpResult
from service.runway.task import Task
from service.runway.trace import EXTENSION, ConnectionTrace
from service.settings import Settings

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

API_VERSION = "2024-11-06"  # the only current one; required on every call
WORKFLOWS = "workflows"  # the model of a video that a workflow of Runway's makes: its run is no task, but an invocation
HOP = "Taxiway-Hop"  # on every call of ours: the door for Runway's SDKs refuses it, or Taxiway could call itself
RETRIEVE_SECONDS = 20.0  # a GET or DELETE touches no asset: an answer later than this is no answer
SIDE_CALLS = 40  # DELETEs, and GETs of evidence, that may be in flight beside the creates and polls
CLOSE_SECONDS = 0.5  # what is left of an answer that is read, or not wanted, is not waited for longer
LARGEST_ANSWER_BYTES = 1_000_000
LONGEST_RETRY_AFTER_SECONDS = 86_400.0

_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_SECONDS = re.compile(rb"[0-9]{1,9}")


def load() -> None:
    """Load httpx now: a process that stays does so before its first open submission, which is to be sent at once."""
    import service.runway.transport  # noqa: F401  # for what loading it loads


class Runway:
    """One short-lived client: opened for a tick or a request, closed with it: no connection outlives a freeze."""

    def __init__(
        self,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`transport`: instead of the one on sockets. Only that one proves that nothing was sent."""
        self.url = settings.runway_url
        self._settings = settings
        self._given = transport
        self._monotonic, self._now = monotonic, now
        self._wire: _Wire | None = None
        self._redact = settings.redactor  # what Runway says is kept and shown; a gateway may repeat what it was sent

    async def aclose(self) -> None:
        """Close every connection."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.transport.aclose()
        elif self._given is not None:
            await self._given.aclose()

    async def create(
        self,
        operation: str,
        body: dict[str, Any] | str,
        *,
        give_up_at: float,
        wall_give_up_at: float = math.inf,
        video: object = None,
    ) -> HttpResult | Broken:
        """Send one create; `body`: an object, or its JSON.

        `give_up_at`: on this client's monotonic clock; past it nothing is sent, or the call is cut off.
        `wall_give_up_at`: the same as Unix seconds, for the monotonic clock stands still while a machine is suspended.
        """
        path = f"/v1/{operation}"
        if log.isEnabledFor(logging.INFO):  # asked first: a message that is not logged is not built
            event(log, RUNWAY, "request_starting", "Request starting", video=video)
            event(log, RUNWAY, "endpoint_called", f"Endpoint called: POST {self.url}{path}", video=video)
        seconds = give_up_at - self._monotonic()
        if seconds <= 0 or self._now() >= wall_give_up_at:
            return Broken("the time for this call was over before it began", sent=False)

        def may_send() -> bool:
            return self._monotonic() < give_up_at and self._now() < wall_give_up_at

        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        result = await self._call("POST", path, seconds, content, ConnectionTrace(self._monotonic, may_send))
        if isinstance(result, HttpResult):
            event(log, RUNWAY, "response_status", f"Response status: {result.status}", video=video)
        else:
            event(log, RUNWAY, "no_response", f"No response: {result.error}", level=logging.WARNING, video=video)
        return result

    async def retrieve(
        self, task_id: str, seconds: float = RETRIEVE_SECONDS, *, model: str | None = None
    ) -> Task | None:
        """One poll of a task; None if Runway does not know it. Raises RunwayUnavailable when that cannot be said.

        `model`: that of the video, which decides where Runway shows its task.
        """
        where = "workflow_invocations" if model == WORKFLOWS else "tasks"
        answer = await self._ask("GET", task_id, 200, seconds, where)
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

    async def delete(self, task_id: str, seconds: float = RETRIEVE_SECONDS) -> bool:
        """Cancel or delete a task. True: it was there; False: gone already. Raises RunwayUnavailable otherwise."""
        return await self._ask("DELETE", task_id, 204, seconds) is not None

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

    async def relay(self, method: str, path: str, body: bytes = b"") -> HttpResult:
        """A caller's request that makes no task, with our key; Runway's answer, whatever it says.

        Raises RunwayUnavailable.
        """
        return await self._whole(method, path, content=body)

    async def _ask(
        self, method: str, task_id: str, wanted: int, seconds: float, where: str = "tasks"
    ) -> HttpResult | None:
        """The answer if it has the `wanted` status; None if Runway itself says that there is no such task."""
        if not _TASK_ID.fullmatch(task_id):
            return None  # it comes from a table or a callback: no task of Runway's, and it could change the path
        path = f"/v1/{where}/{task_id}"
        answer = await self._whole(method, path, seconds)
        if answer.status == 404 and b"Could not find Task" in answer.body:
            return None
        if answer.status != wanted:
            raise self._not_that(method, path, answer)
        return answer

    async def _whole(
        self, method: str, path: str, seconds: float = RETRIEVE_SECONDS, content: bytes = b""
    ) -> HttpResult:
        """An answer that was read to its end, whatever it says."""
        answer = await self._call(method, path, seconds, content)
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
        self, method: str, path: str, seconds: float, content: bytes = b"", trace: ConnectionTrace | None = None
    ) -> HttpResult | Broken:
        trace = trace or ConnectionTrace(self._monotonic)
        started = self._monotonic()
        response: httpx.Response | None = None
        body = bytearray()
        torn: str | None = None
        try:
            wire = self._wire = self._wire or _Wire(self._settings, self._given, self._monotonic, self._now)
            request = wire.request(method, path, content, trace)
            async with asyncio.timeout(seconds):
                response = await wire.transport.handle_async_request(request)
                await _read(response, body)
        except Exception as exc:
            error = self._redact(_why(exc, seconds, trace))
            if response is None:
                # Whatever it is: without proof that nothing was written, it may have been sent.
                return Broken(error, sent=not trace.nothing_was_sent)
            torn = error
        finally:
            if response is not None and (trace.done_at is None or len(body) == LARGEST_ANSWER_BYTES):
                await _close(response)
        said = {name.lower(): value for name, value in response.headers.raw}
        try:
            whole = _decoded(bytes(body), said.get(b"content-encoding"))
        except zlib.error as exc:
            whole, torn = b"", torn or f"the answer cannot be decompressed: {exc}"
        request_id = said.get(b"apigw-requestid")
        return HttpResult(
            response.status_code,
            self._redact.body(whole, is_cut=torn is not None or len(whole) >= LARGEST_ANSWER_BYTES),
            self._monotonic() - (started if trace.begun_at is None else trace.begun_at),
            self._redact(request_id.decode("latin-1")) if request_id else None,
            torn,
            _retry_after(said.get(b"retry-after")),
        )


class _Wire:
    """httpx, loaded with the first call: a tick that sends nothing does without.

    Requests go straight to its `transport`: `AsyncClient` on the way would double what a call costs.
    """

    def __init__(
        self,
        settings: Settings,
        given: httpx.AsyncBaseTransport | None,
        monotonic: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        import httpx

        from service.runway.transport import SocketTransport

        self.transport = given or SocketTransport(
            connections=settings.submit_concurrency + settings.poll_concurrency + SIDE_CALLS,
            keep_creates=settings.submit_keepalive,
            proxy=settings.runway_proxy,
            monotonic=monotonic,
            now=now,
        )
        self._url = settings.runway_url
        self._urls: dict[str, httpx.URL] = {}
        self._request, self._stream, self._parsed = httpx.Request, httpx.ByteStream, httpx.URL
        self._headers = httpx.Headers(settings.custom_headers)
        self._headers.update(
            {
                "Host": httpx.URL(settings.runway_url).netloc.decode(),
                "Authorization": f"Bearer {settings.runway_key}",
                "X-Runway-Version": API_VERSION,
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "taxiway",
                HOP: "1",
            }
        )

    def request(self, method: str, path: str, content: bytes, trace: ConnectionTrace) -> httpx.Request:
        """This call as httpx has it, complete with what `AsyncClient` would add: it sends it as it is."""
        url = self._url + path
        if method == "POST":  # there are few operations, and any number of tasks
            parsed = self._urls.get(url) or self._urls.setdefault(url, self._parsed(url))
        else:
            parsed = self._parsed(url)
        request = self._request(
            method, parsed, headers=self._headers, stream=self._stream(content), extensions={EXTENSION: trace}
        )
        if content:
            request.headers["Content-Length"] = str(len(content))
        return request


async def _read(response: httpx.Response, body: bytearray) -> None:
    """Add the body, as it comes, to `body`: to its end, or up to LARGEST_ANSWER_BYTES exactly."""
    async for part in response.stream:  # type: ignore[union-attr]  # not httpx's decoders: they know no limit
        body += part[: LARGEST_ANSWER_BYTES - len(body)]
        if len(body) == LARGEST_ANSWER_BYTES:
            break


def _decoded(body: bytes, encoding: bytes | None) -> bytes:
    """The body of an answer that was compressed unasked; at most LARGEST_ANSWER_BYTES. Raises zlib.error."""
    if not body or encoding is None or encoding.lower() not in (b"gzip", b"deflate"):
        return body
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, LARGEST_ANSWER_BYTES)


def _why(exc: Exception, seconds: float, trace: ConnectionTrace) -> str:
    if type(exc) is TimeoutError:
        return f"no {'connection' if trace.nothing_was_sent else 'complete answer'} within {seconds:.3g} s"
    return f"{type(exc).__name__}: {exc}".rstrip(": ")


async def _close(response: httpx.Response) -> None:
    """Let go of the connection. What goes wrong here changes nothing about the answer."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await response.aclose()


def _retry_after(value: bytes | None) -> float | None:
    """Seconds, from `Retry-After`. Runway documents none: the form with a date is not worth a clock here."""
    return min(float(value), LONGEST_RETRY_AFTER_SECONDS) if value and _SECONDS.fullmatch(value) else None
