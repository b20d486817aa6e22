"""BullMQ on Redis with undici: Node's own queue, installed with npm when it is first needed."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders.base import ENDPOINT, PAYLOAD, Command, Contender, Enqueuer, Site, peer
from tests.benchmarks.contenders.calls import HEADERS
from tests.benchmarks.processes import ROOT

SOURCE = ROOT / "tests" / "benchmarks" / "bullmq"
FOLDER = ROOT / ".benchmarks" / "node"  # not in the repository: npm fills it
NPM_SECONDS = 300
COMPLETED = "bull:bench:completed"


class BullMq(Contender):
    """A `Worker` with concurrency 50."""

    name = "BullMQ"
    store = "redis"
    client = "undici"
    configuration = "Node, Worker with concurrency=50, undici Pool of 50; the id is the job's return value, kept"
    needs = ("redis",)

    def missing(self) -> str | None:
        absent = [name for name in ("node", "npm") if shutil.which(name) is None]
        if absent:
            return f"{' and '.join(absent)} are not installed"
        return super().missing() or _install()

    def worker(self, site: Site) -> Command:
        return Command(["node", str(FOLDER / "jobs.mjs"), "worker"], _environment(site))

    async def prepare(self, site: Site) -> None:
        return None

    async def fill(self, site: Site, count: int) -> None:
        await _node(site, "fill", str(count))

    async def stored(self, site: Site) -> int:
        redis = peer("redis.asyncio").from_url(site.redis)
        count: int = await redis.zcard(COMPLETED)
        await redis.aclose()
        return count

    async def delays(self, site: Site) -> list[float]:
        return [milliseconds / 1000 for milliseconds in json.loads(await _node(site, "delays"))]

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site)


def _install(folder: Path = FOLDER) -> str | None:
    """Install what package.json names, once. Why that failed, if it did."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted, stamp = (SOURCE / "package.json").read_text(encoding="utf-8"), folder / "installed"
    for name in ("package.json", "jobs.mjs"):
        shutil.copyfile(SOURCE / name, folder / name)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return None
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS, check=False)
    if done.returncode:
        return f"npm install failed: {done.stderr.strip()[-300:]}"
    stamp.write_text(wanted, encoding="utf-8")
    return None


def _environment(site: Site) -> dict[str, str]:
    more = {"BENCH_PAYLOAD": json.dumps(PAYLOAD), "BENCH_HEADERS": json.dumps(HEADERS), "BENCH_ENDPOINT": ENDPOINT}
    return site.environment | more | {"NODE_ENV": "production"}


async def _process(site: Site, *words: str, **how: Any) -> asyncio.subprocess.Process:
    env = _environment(site) | {"PATH": str(Path(shutil.which("node") or "node").parent)}
    return await asyncio.create_subprocess_exec(
        "node", str(FOLDER / "jobs.mjs"), *words, env=env, stdout=asyncio.subprocess.PIPE, limit=16_000_000, **how
    )


async def _node(site: Site, *words: str) -> str:
    process = await _process(site, *words)
    said, _ = await process.communicate()
    assert process.returncode == 0, f"BullMQ: {' '.join(words)} failed"
    return said.decode()


class _Enqueuer(Enqueuer):
    async def __aenter__(self) -> Enqueuer:
        self.process = await _process(self.site, "serve", stdin=asyncio.subprocess.PIPE)
        assert self.process.stdout
        await self.process.stdout.readline()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        await self.process.wait()

    async def one(self) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()
