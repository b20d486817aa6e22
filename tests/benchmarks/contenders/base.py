"""What every contender can do: hold a queue, and work it off in a process of its own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tests.database import connected

if TYPE_CHECKING:
    from tests.benchmarks.watching import Watcher

PAYLOAD: dict[str, Any] = {
    "promptImage": "https://example.com/boat.jpg",
    "promptText": "a boat leaves the harbour at dawn, seen from above",
    "model": "gen4_turbo",
    "ratio": "1280:720",
    "duration": 5,
}
ENDPOINT = "/v1/image_to_video"
KEY = "key_" + "0" * 128


@dataclass(frozen=True)
class Site:
    """Where one run takes place: fresh databases, the mock, and how many may be in flight."""

    database: str
    redis: str
    runway: str
    runway_tls: str
    slots: int
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """The same for a worker process of a peer."""
        return {
            "BENCH_DATABASE": self.database,
            "BENCH_REDIS": self.redis,
            "BENCH_RUNWAY": self.runway,
            "BENCH_SLOTS": str(self.slots),
        }


@dataclass(frozen=True)
class Command:
    """A process to start."""

    words: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Contender:
    """One way to work off a queue.

    `configuration`: the settings that are not its defaults, for the report. `docs`: the page that recommends them.
    `durable`: whether it waits for a disk before an id counts as stored. `slow`: its rate is taken from a third of the
    jobs of a drain, and it does not take part where figures of slow ones say nothing. `tls`: over TLS, which only the
    drain is about. `variant`: one of Taxiway's with other settings, of which a quick run has enough in the first drain.
    """

    name: ClassVar[str]
    store: ClassVar[Literal["postgres", "redis"]]
    client: ClassVar[str] = "httptools"
    configuration: ClassVar[str] = ""
    docs: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()  # modules
    slow: ClassVar[bool] = False
    tls: bool = False
    variant: bool = False
    ours: ClassVar[bool] = False  # Taxiway and the floors: one of them that fails ends the run
    worker_module: ClassVar[str] = ""

    @property
    def durable(self) -> bool:
        return self.store == "postgres"

    def missing(self) -> str | None:
        """Why it cannot run here."""
        absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"{', '.join(absent)} is not installed: pip install -e '.[bench]'" if absent else None

    def worker(self, site: Site) -> Command:
        """Its worker process."""
        return Command([sys.executable, "-m", self.worker_module, *self.arguments()], site.environment)

    def arguments(self) -> list[str]:
        return []

    async def prepare(self, site: Site) -> None:
        """Make its schema."""
        raise NotImplementedError

    async def fill(self, site: Site, count: int) -> None:
        """Queue so many jobs, as fast as it likes."""
        raise NotImplementedError

    async def is_trained(self, site: Site) -> bool:
        """Whether it has learned, for its next run as well, that all its slots may be busy."""
        return True

    async def clear(self, site: Site) -> None:
        """Remove every job. What was learned stays."""
        raise NotImplementedError

    def watcher(self, site: Site) -> Watcher:
        """Sees what is stored, and when."""
        raise NotImplementedError

    def enqueuer(self, site: Site) -> Enqueuer:
        """Hands in one job at a time, as its users do."""
        raise NotImplementedError


class Enqueuer:
    """Opens what it needs once, and enqueues single jobs."""

    def __init__(self, site: Site) -> None:
        self.site = site

    async def __aenter__(self) -> Enqueuer:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def one(self) -> None:
        """Enqueue one job."""
        raise NotImplementedError


async def scalar(url: str, sql: str, *arguments: object) -> Any:
    """The first column of the first row."""
    async with connected(url) as connection:
        return await connection.fetchval(sql, *arguments)


def peer(name: str) -> Any:
    """A module that may not be installed, and whose types nobody checks here."""
    return importlib.import_module(name)
