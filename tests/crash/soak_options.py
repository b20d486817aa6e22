"""What a soak is asked for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from tests.cluster.nodes import SHORT_TTL_SECONDS
from tests.cluster.trouble import ACT_SECONDS, ACTS, LAG


@dataclass(frozen=True)
class Options:
    """What is asked for. Without a database of one's own, one is started for the time. `window`: seconds."""

    videos: int = 10_000
    rows: int = 2_500
    seed: int = 7
    processes: int = 4
    minutes: float = 20.0
    window: float = 60.0
    database_url: str | None = None
    cluster: bool = False
    asynchronous: bool = False
    door: str = "drop"
    rounds: int = 1
    ttl: int = SHORT_TTL_SECONDS
    acts: tuple[str, ...] = ()

    @property
    def plan(self) -> list[str]:
        """What happens to the cluster, in order."""
        every_one = (LAG,) if self.asynchronous else ACTS
        return list(self.acts or every_one) * self.rounds

    def pause(self, batches: float) -> float:
        """Seconds from one of so many batches to the next: on a cluster some are under way at every act."""
        return len(self.plan) * ACT_SECONDS / max(batches, 1) if self.cluster else 0.0


def parse(description: str) -> Options:
    """Those of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.soak", description=description)
    for name, kind in (
        ("videos", int),
        ("rows", int),
        ("seed", int),
        ("processes", int),
        ("minutes", float),
        ("window", float),
        ("database-url", str),
        ("rounds", int),
        ("ttl", int),
    ):
        parser.add_argument(f"--{name}", type=kind, default=getattr(Options, name.replace("-", "_")))
    for name in ("cluster", "asynchronous"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--door", choices=("drop", "keep"), default=Options.door)
    return Options(**vars(parser.parse_args()))
