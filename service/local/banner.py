"""What `taxiway dev` says when it is up: six lines with everything that you need to use it, and to stop it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.commands.beside import login


@dataclass(frozen=True)
class Places:
    """Where everything is. `simulator_url` is None where the environment names another Runway."""

    url: str
    api_key: str
    admin_token: str
    data: Path
    every: float
    runway_url: str
    database_url: str
    simulator_url: str | None


def banner(places: Places, *, verbose: bool = False) -> str:
    """The text for the terminal. It carries the API key and a link that logs in: they are there to be pasted."""
    lines = [
        f"Page      {login(places.url, places.admin_token)}",
        f"API       {places.url} (described at {places.url}/docs)",
        f"API key   {places.api_key}",
        f"Database  {places.database_url}",
        f"Runway    {_runway(places)}",
    ]
    if verbose:
        lines += [
            f"Cron      calls {places.url}/process-queued every {places.every:g} s",
            f"Data      {places.data}",
        ]
    details = "" if verbose else "; `taxiway logs -f` or -v shows details"
    return "\n".join([*lines, f"Stop      Ctrl-C stops all of it{details}"])


def _runway(places: Places) -> str:
    if places.simulator_url:
        return f"simulated, {places.simulator_url} (its books: {places.simulator_url}/_simulator/ledger)"
    return f"{places.runway_url}: a key is set, so every video SPENDS REAL CREDITS"
