"""A connected socket as an asyncio transport, without what a create does not need: it costs half of asyncio's own.

And it says so when the kernel refused the first byte of a write: that proves that nothing was sent. asyncio's own
transports keep it to themselves.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

READ_BYTES = 65_536
FULL_BYTES = 65_536  # what the kernel did not take yet; then the protocol is to pause


class PlainSocket(asyncio.Transport):
    """Calls its protocol as asyncio does. `refused_all`: the last `write` failed before its first byte was taken."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.Protocol) -> None:
        self._loop = loop
        self._sock = sock
        self._descriptor = sock.fileno()
        self._protocol = protocol
        self._unsent = bytearray()
        self._is_closing = self._is_paused = self._is_full = False
        self.refused_all = False
        protocol.connection_made(self)
        loop.add_reader(self._descriptor, self._read)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._sock if name == "socket" else default

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        if not self._unsent:
            taken = self._hand_over(data)
            if taken == len(data) or self._is_closing:
                return
            data = data[taken:]
            self._loop.add_writer(self._descriptor, self._write_more)
        self._unsent += data
        if len(self._unsent) > FULL_BYTES and not self._is_full:
            self._is_full = True
            self._protocol.pause_writing()

    def _hand_over(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            self.refused_all = not self._unsent
            self._close(exc)
            return 0

    def _write_more(self) -> None:
        del self._unsent[: self._hand_over(self._unsent)]
        if self._is_closing:
            return
        if not self._unsent:
            self._loop.remove_writer(self._descriptor)
        if self._is_full and len(self._unsent) <= FULL_BYTES // 4:
            self._is_full = False
            self._protocol.resume_writing()

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._close(exc)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._protocol.eof_received()
            self._close(None)

    def is_reading(self) -> bool:
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        if self.is_reading():
            self._is_paused = True
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """The same as `abort`: its caller has what it wanted."""
        self._close(None)

    def abort(self) -> None:
        self._close(None)

    def _close(self, exc: Exception | None) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        if not self._is_paused:
            self._loop.remove_reader(self._descriptor)
        if self._unsent:
            self._loop.remove_writer(self._descriptor)
            self._unsent.clear()
        self._sock.close()
        self._protocol.connection_lost(exc)
