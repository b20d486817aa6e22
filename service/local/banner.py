"""What `taxiway dev` says when it is up: where everything is, and one line that makes a video."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

REQUEST = {
    "input": {
        "promptText": "A paper boat drifts down a rainy street",
        "promptImage": "https://www.gstatic.com/webp/gallery/1.jpg",
    }
}


@dataclass(frozen=True)
class Places:
    """Where everything is. `database_url` and `simulator_url` are None where the environment names another."""

    url: str
    asked_port: int
    port: int
    api_key: str
    admin_token: str
    data: Path
    every: float
    runway_url: str
    database_url: str | None
    simulator_url: str | None


def banner(places: Places) -> str:
    """The text for the terminal. It carries the API key and a link that logs in: they are there to be pasted."""
    url = places.url
    bearer = f"Authorization: Bearer {places.api_key}"
    body = json.dumps(REQUEST)
    create = ["curl", f"{url}/videos", "-H", bearer, "-H", "Content-Type: application/json", "-d", body]
    database = shlex.join(["psql", places.database_url]) if places.database_url else 'psql "$DATABASE_URL"'
    taken = [] if places.port == places.asked_port else [f"Port {places.asked_port} is in use: taking {places.port}."]
    lines = [
        *taken,
        f"Taxiway is up: {url}",
        f"  page      {url}/login#token={quote(places.admin_token, safe='')}",
        f"  health    {url}/health",
        f"  API       {url}/openapi.json",
        f"  API key   {places.api_key}",
        f"  database  {database}",
        f"  Runway    {_runway(places)}",
        f"  cron      calls {url}/process-queued every {places.every:g} s",
        f"  data      {places.data}",
        "",
        "Queue a video:",
        f"  {shlex.join(create)}",
        "Then, with the id from its answer in place of ID, see how it is, and fetch the file:",
        f"  {shlex.join(['curl', f'{url}/videos/ID', '-H', bearer])}",
        f"  {shlex.join(['curl', '-L', '-o', 'video.mp4', f'{url}/videos/ID/file', '-H', bearer])}",
        "",
        "Ctrl-C stops all of it.",
    ]
    return "\n".join(lines)


def _runway(places: Places) -> str:
    if places.simulator_url:
        return f"simulated, {places.simulator_url} (its books: {places.simulator_url}/_simulator/ledger)"
    return f"{places.runway_url}: a key is set, so every video SPENDS REAL CREDITS"
