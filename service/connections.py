"""Connections, which cost a stranger nothing and us a file descriptor each: how long one may wait, and how many can be.

uvicorn has a limit of time between two requests only. Here a request's head must be complete in ten seconds, an answer
must be taken, and when connections become too many, the one that has waited longest for a head makes room.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Base
else:
    _Base = object

HEAD_SECONDS = 10.0  # from the first byte, or from the connection, until the head of the request is complete
UNREAD_SECONDS = 60.0  # a caller that takes nothing of its answer for so long is gone
LARGEST_HEAD_BYTES = 65_536
LARGEST_REST_BYTES = 8_000_000  # of a body whose request was answered before it had come
# asyncio takes so many connections at once before it handles any of them; they come on top of the most.
ACCEPTED_AT_ONCE = 8
BACKLOG = 2048  # connections that wait in the kernel meanwhile
LEAST_CONNECTIONS = 16
RESERVED_DESCRIPTORS = 200  # for the database, Runway and files
USUAL_DESCRIPTORS = 1024  # where the system does not say

TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"


def most_connections() -> int:
    """How many connections leave enough file descriptors for everything else, under the limit of this process."""
    limit = USUAL_DESCRIPTORS
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = soft if 0 < soft < 1_000_000 else 1_000_000
    return max(LEAST_CONNECTIONS, limit // 4, limit - RESERVED_DESCRIPTORS)


def bounded(base: type[Any], most: int) -> type[asyncio.Protocol]:
    """uvicorn's protocol of HTTP, either of its two, with these limits. `most`: connections at once."""
    made = type(f"Bounded{base.__name__}", (_Bounded, base), {"most": most, "without_head": {}})
    assert issubclass(made, asyncio.Protocol)  # noqa: S101  # as both of uvicorn's are
    return made


class _Bounded(_Base):
    """Stands before one of uvicorn's protocols. It relies on `cycle`, which both of them replace when a head is whole,
    and on `response_complete` of that.
    """

    most: int
    without_head: dict[_Bounded, None]  # oldest first; of all connections of this server

    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Make room if this is one too many."""
        super().connection_made(transport)
        self.without_head[self] = None
        self._timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)
        if len(self.connections) > self.most:
            oldest = next(iter(self.without_head))
            if oldest is self:
                transport.write(TOO_MANY)  # all the others are being answered
            oldest.transport.close()
            self.without_head.pop(oldest, None)

    def data_received(self, data: bytes) -> None:
        """See whether the head is complete with these bytes."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self.without_head.pop(self, None)
            self._head_bytes = 0
            return
        if self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._timer is None:  # the beginning of the next request, or the rest of one that was answered early
            self._timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)
        if self._head_bytes > (LARGEST_REST_BYTES if self._is_reading_rest() else LARGEST_HEAD_BYTES):
            self._refuse(TOO_LARGE)

    def on_response_complete(self) -> None:
        """The connection waits for a head again, unless one has come already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self.without_head[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.without_head.pop(self, None)
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The caller takes nothing more for now."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        if self._unread is not None:
            self._unread.cancel()
        super().resume_writing()

    def _is_reading_rest(self) -> bool:
        """Whether what comes is still the body of a request that was answered before it had arrived."""
        return self.cycle is not None and bool(self.cycle.more_body)

    def _head_is_late(self) -> None:
        self._timer = None
        self._refuse(TOO_LATE)

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            if not self._is_reading_rest():  # that one has its answer
                self.transport.write(answer)
            self.transport.close()
