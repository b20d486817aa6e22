"""Runway mocked with respx, underneath the client of production: `with mocked() as routes: routes.get(…).respond(…)`.

What is replaced is the one method in which every call ends, creates and polls alike. A mocked transport proves nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar

import httpx
import respx
from respx.mocks import AbstractRequestMocker


class TaxiwayMocker(AbstractRequestMocker):
    """respx for `service.runway.transport`."""

    name = "taxiway"
    targets: ClassVar[list[str]] = ["service.runway.transport.SocketTransport"]
    target_methods: ClassVar[list[str]] = ["handle_async_request"]

    @classmethod
    def to_httpx_request(cls, **kwargs: Any) -> httpx.Request:
        """It is one already."""
        request: httpx.Request = kwargs["request"]
        return request

    @classmethod
    async def from_async_httpx_response(
        cls, httpx_response: httpx.Response, target: Any, **kwargs: Any
    ) -> httpx.Response:
        """It is one already."""
        return httpx_response


def mocked(**options: Any) -> respx.MockRouter:
    """A router in front of every call to Runway, until its `with` ends."""
    router: respx.MockRouter = respx.mock(using=TaxiwayMocker.name, **options)
    return router
