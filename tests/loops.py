"""The two event loops that the product runs on."""

from __future__ import annotations

import pytest

from service import event_loop


def asyncios() -> None:
    """asyncio's own loop, as on Windows."""


# For what lies under HTTP, and for signals: their proofs must hold on both.
both_loops = pytest.mark.parametrize(
    "anyio_backend", [event_loop.factory, asyncios], ids=["uvloop", "asyncio"], indirect=True, scope="session"
)
