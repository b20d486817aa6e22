"""What is proven of one request while a transport carries it.

An exception's class proves nothing: libraries report a connection that broke after the whole request as one that was
never made. So the transport itself writes down what it did, before it does it.
"""

from __future__ import annotations

from collections.abc import Callable

EXTENSION = "taxiway.trace"  # where a trace travels: `httpx.Request.extensions`


def _always() -> bool:
    return True


class ConnectionTrace:
    """What became of one request; times are on `monotonic`, None: not yet.

    `carried`: a transport that writes traces has taken it over. `opened_at`: it has its connection, behind a proxy's
    CONNECT and the TLS handshake, whose bytes are none of the request's. `begun_at`: its first byte is about to be
    written. `sent_at`, `answered_at`, `done_at`: all of it is written, the answer's head was read, the answer was read
    to its end.
    """

    __slots__ = ("_monotonic", "answered_at", "begun_at", "carried", "done_at", "may_send", "opened_at", "sent_at")

    def __init__(self, monotonic: Callable[[], float], may_send: Callable[[], bool] = _always) -> None:
        """`may_send` is asked right before each write; once it says no, nothing more is written."""
        self._monotonic = monotonic
        self.may_send = may_send
        self.carried = False
        self.opened_at: float | None = None
        self.begun_at: float | None = None
        self.sent_at: float | None = None
        self.answered_at: float | None = None
        self.done_at: float | None = None

    @property
    def nothing_was_sent(self) -> bool:
        """Whether it is proven that no byte of the request was written."""
        return self.carried and self.begun_at is None

    def opened(self) -> None:
        self.opened_at = self._monotonic()

    def begun(self) -> None:
        """To be called before the first write."""
        if self.begun_at is None:
            self.begun_at = self._monotonic()

    def refused(self) -> None:
        """The first write came to nothing: the kernel took no byte of it, and there is no connection any more."""
        self.begun_at = None

    def sent(self) -> None:
        self.sent_at = self._monotonic()

    def answered(self) -> None:
        self.answered_at = self._monotonic()

    def done(self) -> None:
        self.done_at = self._monotonic()
