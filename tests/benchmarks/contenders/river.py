"""River, which is named and not measured: its workers are a Go program, and no wheel or npm package has them."""

from __future__ import annotations

from tests.benchmarks.contenders.base import Contender


class River(Contender):
    """It would need a Go toolchain; the package `riverqueue` on PyPI only enqueues."""

    name = "River"
    store = "postgres"
    docs = "https://riverqueue.com/docs"

    def missing(self) -> str | None:
        return "its workers need a Go toolchain; riverqueue on PyPI only enqueues"
