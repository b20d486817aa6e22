"""A transport of httpx's as the wire: for tests, and for callers that bring their own.

Loaded only where it is used: httpx is heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from service.runway.transport import CONNECT_SECONDS, Content, Response, current


async def httpcore_trace(name: str, _info: dict[str, Any]) -> None:
    if name.endswith("send_request_headers.started"):
        current.get().connected()


class _HttpxResponse:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def read(self, chunks: list[bytes], limit: int) -> None:
        size = 0
        async for chunk in self._response.aiter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                break

    @property
    def done(self) -> bool:
        return self._response.is_closed

    async def close(self) -> None:
        await self._response.aclose()


class HttpxTransport:
    """Any transport of httpx's. `AsyncClient` is left out: of what it adds, a create must have nothing."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self.traced = isinstance(transport, httpx.AsyncHTTPTransport)  # any other may have sent without a word

    async def open(self, method: str, url: str, headers: Mapping[str, str], content: Content) -> Response:
        extensions = {"timeout": {"connect": CONNECT_SECONDS}, "trace": httpcore_trace}
        request = httpx.Request(method, url, headers=headers, content=content, extensions=extensions)
        return _HttpxResponse(await self._transport.handle_async_request(request))

    async def aclose(self) -> None:
        await self._transport.aclose()
