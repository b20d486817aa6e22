"""aiohttp's session, loaded when the first call is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp


class _TracedConnector(aiohttp.TCPConnector):
    def __init__(self, on_connected: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._on_connected = on_connected

    async def connect(self, *arguments: Any, **options: Any) -> Any:
        connection = await super().connect(*arguments, **options)
        self._on_connected()
        return connection


def new_session(on_connected: Callable[[], None], connect_seconds: float, **options: Any) -> aiohttp.ClientSession:
    """A session without cookies. It calls `on_connected` when a call has its connection; `options` are the connector's.

    There is no limit but that of connecting: the deadline of the whole call ends whatever takes too long.
    """
    return aiohttp.ClientSession(
        connector=_TracedConnector(on_connected, **options),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(sock_connect=connect_seconds),
    )
