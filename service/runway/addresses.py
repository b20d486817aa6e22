"""From a host's name to a connected socket: addresses are resolved once for many calls, and tried as RFC 8305 says."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from itertools import chain, zip_longest
from typing import Any

HEAD_START_SECONDS = 0.25  # of each address before the next is tried beside it
KEPT_SECONDS = 10.0  # as long as that, many creates need one look-up

Address = tuple[int, Any]  # the family, and what `connect` takes
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


async def of_host(host: str, port: int, threads: Executor | None = None) -> list[Address]:
    """The addresses of a host, as the system knows them, first of one family, then of the other. Raises OSError.

    `threads`: where it is looked up, which may take long; None: in the few that the loop has.
    """
    if numeric := _numeric(host, port):
        return [numeric]
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(threads, ask)
    unique = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    first = [one for one in unique if one[0] == unique[0][0]]
    others = [one for one in unique if one[0] != unique[0][0]]
    return [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]


def _numeric(host: str, port: int) -> Address | None:
    for family, rest in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        with suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return family, (host, port, *rest)
    return None


class Resolver:
    """Asks `resolve` once for all calls of `KEPT_SECONDS`; a failure is not kept."""

    def __init__(self, resolve: Resolve, monotonic: Callable[[], float]) -> None:
        self._resolve, self._monotonic = resolve, monotonic
        self._found: dict[tuple[str, int], tuple[float, asyncio.Future[Sequence[Address]]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """The addresses of this host. Raises OSError."""
        kept = self._found.get((host, port))
        if kept is None or self._monotonic() >= kept[0] or _is_failure(kept[1]):
            kept = self._monotonic() + KEPT_SECONDS, asyncio.ensure_future(self._resolve(host, port))
            self._found[host, port] = kept
        if kept[1].done():
            return kept[1].result()
        return await asyncio.shield(kept[1])  # one caller that is cancelled does not cancel the others

    async def aclose(self) -> None:
        """End what is still being looked up."""
        found = [future for _, future in self._found.values()]
        self._found.clear()
        for future in found:
            future.cancel()
        await asyncio.gather(*found, return_exceptions=True)


def _is_failure(found: asyncio.Future[Sequence[Address]]) -> bool:
    return found.done() and (found.cancelled() or found.exception() is not None)


async def connect(addresses: Sequence[Address], head_start: float = HEAD_START_SECONDS) -> socket.socket:
    """A socket that is connected to the first of these that answers. Raises OSError with the last one's failure."""
    if len(addresses) == 1:
        return await _connect(addresses[0])
    left = list(addresses)
    trying: set[asyncio.Task[socket.socket]] = set()
    failure: OSError = OSError("the name has no address")
    try:
        while left or trying:
            if left:
                trying.add(asyncio.create_task(_connect(left.pop(0))))
            wait = head_start if left else None
            done, trying = await asyncio.wait(trying, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (exc := task.exception()) is None:
                    trying |= done - {task}  # another may have come at the same moment: it is closed below
                    return task.result()
                if not isinstance(exc, OSError):
                    raise exc
                failure = exc
        raise failure
    finally:
        await _give_up(trying)


async def _connect(address: Address) -> socket.socket:
    family, where = address
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        if sys.platform == "win32":
            await asyncio.get_running_loop().sock_connect(one, where)
        else:
            await _connected(one, where)
    except BaseException:
        one.close()
        raise
    return one


async def _connected(one: socket.socket, where: Any) -> None:
    """What `sock_connect` of the loop does, without another look-up of the address: half its cost."""
    failure = one.connect_ex(where)
    if failure == errno.EINPROGRESS and _is_connected(one):  # inside one machine, it takes no time
        return
    if failure == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        descriptor = one.fileno()
        loop.add_writer(descriptor, _set, ready)
        try:
            await ready
        finally:
            loop.remove_writer(descriptor)
        failure = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, f"{os.strerror(failure)}: {where[0]} port {where[1]}")


def _is_connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _give_up(trying: set[asyncio.Task[socket.socket]]) -> None:
    for task in trying:
        task.cancel()
    for task in trying:
        with suppress(OSError, asyncio.CancelledError):
            (await task).close()
