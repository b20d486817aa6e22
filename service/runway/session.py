"""aiohttp's session, loaded when the first call is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp


class _TracedConnector(aiohttp.TCPConnector):
    def __init__(self, told: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._told = told

    async def connect(self, *arguments: Any, **options: Any) -> Any:
        connection = await super().connect(*arguments, **options)
        self._told()
        return connection


def new_session(told: Callable[[], None], connect_seconds: float, **options: Any) -> aiohttp.ClientSession:
    """A session without cookies. `told` is called when a call has its connection; `options` are the connector's.

    There is no limit but that of connecting: the deadline of the whole call ends whatever takes too long.
    """
    return aiohttp.ClientSession(
        connector=_TracedConnector(told, **options),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(sock_connect=connect_seconds),
    )
