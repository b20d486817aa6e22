"""Names that have the addresses that a test gives them."""

from __future__ import annotations

import socket

import pytest

from service.runway import addresses
from service.runway.addresses import Address


def resolving(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    """From now on, every name has these addresses."""

    async def of_host(_host: str, port: int, *_: object) -> list[Address]:
        return [(socket.AF_INET, (one, port)) for one in found]

    monkeypatch.setattr(addresses, "of_host", of_host)
