"""Cron services as they are: each reads its recipe the way its makers do, and makes the request that follows from it.

Where a recipe is a program (a script with curl, a Worker, SQL), it is run, and what it sends is recorded.
"""

from __future__ import annotations

import json
import os
import shutil
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import anyio
import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.commands.recipe import recipes
from tests.database import connected
from tests.simulator_server import on_socket
from tests.world import CRON_SECRET

NODE_MISSING = "needs Node.js 20 or newer: install Debian's nodejs, or from https://nodejs.org"
CONNECTION_HEADERS = {"host", "content-length", "connection", "accept-encoding", "transfer-encoding", "expect"}
Yaml = dict[Any, Any]


@dataclass(frozen=True)
class Call:
    """One request to Taxiway. `path`: with its query; `gives_up`: seconds after which the caller hangs up."""

    method: str
    path: str
    headers: Mapping[str, str]
    gives_up: float
    body: bytes = b""

    @property
    def budget(self) -> float:
        """The seconds that it asks for; those of TICK_BUDGET's default if it asks for none."""
        return float(parse_qs(urlsplit(self.path).query).get("budget", ["20"])[0])

    def with_secret(self, secret: str) -> Call:
        """The same with another secret."""
        return replace(self, headers={k: v.replace(CRON_SECRET, secret) for k, v in self.headers.items()})

    async def send(self, url: str) -> httpx.Response:
        """Make it, on a connection of its own; no redirect is followed."""
        async with httpx.AsyncClient(base_url=url, trust_env=False, follow_redirects=False, timeout=30) as client:
            client.headers.clear()
            return await client.request(self.method, self.path, headers=dict(self.headers), content=self.body)


@dataclass
class Recorder:
    """A server that answers everything with 200 and remembers it, and a database for the caller that is one."""

    url: str
    database: str
    seen: list[Call] = field(default_factory=list)

    def files(self, name: str) -> dict[str, str]:
        """The files of a recipe, pointed here."""
        return recipes(self.url)[name].files()

    def path(self, url: str) -> str:
        """The path of an address, which must be one of the caller's own Taxiway."""
        assert url.startswith(f"{self.url}/"), url
        return url.removeprefix(self.url)

    def last(self, gives_up: float) -> Call:
        """What was sent last, and nothing before it."""
        [call] = self.seen
        return replace(call, gives_up=gives_up)


@asynccontextmanager
async def recording(database: str) -> AsyncIterator[Recorder]:
    """A recorder on the loopback."""
    recorder = Recorder("", database)

    async def record(request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        headers = {name: value for name, value in request.headers.items() if name not in CONNECTION_HEADERS}
        recorder.seen.append(Call(request.method, request.url.path + query, headers, 0, await request.body()))
        return JSONResponse({"jobId": 1})

    methods = ["GET", "POST", "PUT"]
    async with on_socket(Starlette(routes=[Route("/{path:path}", record, methods=methods)])) as url:
        recorder.url = url
        yield recorder


async def shell(script: str, folder: Path, **variables: str) -> None:
    """Run a script the way people paste it, in an empty environment but for these variables."""
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "CRON_SECRET": CRON_SECRET} | variables
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = await anyio.run_process(command, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()


async def vercel(to: Recorder, _: Path) -> Call:
    """GET, with the secret of the project's environment, for 300 s or as long as the function may run."""
    config = json.loads(to.files("vercel")["vercel.json"])
    [cron] = config["crons"]
    headers = {"user-agent": "vercel-cron/1.0", "authorization": f"Bearer {CRON_SECRET}"}
    return Call("GET", cron["path"], headers, config["functions"]["api/index.py"]["maxDuration"])


async def _cron_job_org(to: Recorder, folder: Path, script: str) -> Call:
    await shell(script.replace("https://api.cron-job.org", to.url), folder, CRONJOB_API_KEY="their-api-key")
    made = to.last(0)
    assert (made.method, made.path) == ("PUT", "/jobs")
    assert made.headers["authorization"] == "Bearer their-api-key"
    assert made.headers["content-type"] == "application/json"
    job = json.loads(made.body)["job"]
    assert job["enabled"] is True
    assert {job["schedule"][unit][0] for unit in ("hours", "mdays", "minutes", "months", "wdays")} == {-1}
    method = {0: "GET", 1: "POST"}[job["requestMethod"]]
    assert job["requestTimeout"] <= 30
    return Call(method, to.path(job["url"]), job["extendedData"]["headers"], job["requestTimeout"])


async def cron_job_org(to: Recorder, folder: Path) -> Call:
    """Whatever its job says, for 30 s."""
    return await _cron_job_org(to, folder, to.files("cron-job.org")["create-job.sh"])


async def outside_hobby(to: Recorder, folder: Path) -> Call:
    """The caller from outside that Vercel's recipe sets up for the plan Hobby."""
    return await _cron_job_org(to, folder, to.files("vercel")["outside-caller.sh"])


async def github_actions(to: Recorder, folder: Path) -> Call:
    """The workflow's own curl, run."""
    workflow: Yaml = yaml.safe_load(to.files("github-actions")[".github/workflows/taxiway.yml"])
    [step] = workflow["jobs"]["tick"]["steps"]
    assert step["env"] == {"CRON_SECRET": "${{ secrets.CRON_SECRET }}"}
    await shell(step["run"], folder)
    return to.last(120)


async def google(to: Recorder, folder: Path) -> Call:
    """What `gcloud` was asked for; a POST without a body, with headers that prove nothing."""
    (folder / "gcloud").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > arguments\n')
    (folder / "gcloud").chmod(0o755)
    await shell(to.files("google-cloud-scheduler")["create-job.sh"], folder)
    words = (folder / "arguments").read_text().splitlines()
    assert words[:5] == ["scheduler", "jobs", "create", "http", "taxiway"]
    parser = ArgumentParser(exit_on_error=True)
    for name in ("location", "schedule", "uri", "http-method", "headers", "attempt-deadline", "max-retry-attempts"):
        parser.add_argument(f"--{name}", required=True)
    asked = parser.parse_args(words[5:])
    assert (asked.schedule, asked.max_retry_attempts) == ("* * * * *", "0")
    pairs = dict(pair.split("=", 1) for pair in asked.headers.split(","))
    own = {"user-agent": "Google-Cloud-Scheduler", "x-cloudscheduler": "true", "x-cloudscheduler-jobname": "taxiway"}
    seconds = float(asked.attempt_deadline.removesuffix("s"))
    assert 15 <= seconds <= 1800
    return Call(asked.http_method, to.path(asked.uri), own | pairs, seconds)


class Template(yaml.SafeLoader):
    """CloudFormation's YAML: short functions become pairs of name and argument."""


for _name in ("!Sub", "!GetAtt", "!Ref"):
    Template.add_constructor(_name, lambda loader, node: (node.tag, loader.construct_scalar(node)))  # type: ignore[arg-type]


async def eventbridge(to: Recorder, _: Path) -> Call:
    """The destination, the connection's key, and the target's query; the body is the event. 5 s, fixed."""
    document: Yaml = yaml.load(to.files("eventbridge")["taxiway.yaml"], Template)
    of = {name: resource["Properties"] for name, resource in document["Resources"].items()}
    key = of["Connection"]["AuthParameters"]["ApiKeyAuthParameters"]
    function, text = key["ApiKeyValue"]
    assert function == "!Sub"
    [target] = of["EveryMinute"]["Targets"]
    query = urlencode(target["HttpParameters"]["QueryStringParameters"])
    headers = {
        key["ApiKeyName"]: text.replace("${CronSecret}", CRON_SECRET),
        "user-agent": "Amazon/EventBridge/ApiDestinations",
        "content-type": "application/json; charset=utf-8",
        "range": "bytes=0-1048575",
    }
    event = {"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
    destination = of["Destination"]
    path = to.path(destination["InvocationEndpoint"])
    return Call(destination["HttpMethod"], f"{path}?{query}", headers, 5, json.dumps(event).encode())


async def qstash(to: Recorder, folder: Path) -> Call:
    """A POST with what it was told to forward, and a signature of its own that is not looked at."""
    own = to.files("qstash")["create-schedule.sh"].replace("https://qstash.upstash.io", to.url)
    await shell(own, folder, QSTASH_TOKEN="their-token")
    made = to.last(0)
    assert made.method == "POST"
    destination = made.path.removeprefix("/v2/schedules/")
    assert made.headers["authorization"] == "Bearer their-token"
    assert made.headers["upstash-retries"] == "0"
    prefix = "upstash-forward-"
    forwarded = {name.removeprefix(prefix): v for name, v in made.headers.items() if name.startswith(prefix)}
    signed = {"upstash-signature": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl", "user-agent": "Upstash-QStash"}
    seconds = float(made.headers["upstash-timeout"].removesuffix("s"))
    return Call(made.headers["upstash-method"], to.path(destination), signed | forwarded, seconds)


PG_STUBS = f"""
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobname text PRIMARY KEY, schedule text, command text);
CREATE FUNCTION cron.schedule(job_name text, schedule text, command text) RETURNS bigint LANGUAGE sql AS
    'INSERT INTO cron.job VALUES ($1, $2, $3) RETURNING 1::bigint';
CREATE SCHEMA vault;
CREATE VIEW vault.decrypted_secrets AS SELECT 'taxiway_cron_secret' AS name, '{CRON_SECRET}' AS decrypted_secret;
CREATE SCHEMA net;
CREATE TABLE net.sent (url text, body jsonb, headers jsonb, timeout_milliseconds int);
CREATE FUNCTION net.http_post(
    url text, body jsonb DEFAULT '{{}}', params jsonb DEFAULT '{{}}',
    headers jsonb DEFAULT '{{"Content-Type": "application/json"}}', timeout_milliseconds int DEFAULT 5000
) RETURNS bigint LANGUAGE sql AS
    $$INSERT INTO net.sent VALUES ($1, $2, '{{"Content-Type": "application/json"}}' || $4, $5) RETURNING 1::bigint$$;
"""


async def pg_cron(to: Recorder, _: Path) -> Call:
    """The job that its SQL makes, run on a PostgreSQL with both extensions' functions, which write down their calls."""
    made, *rest = to.files("pg-cron")["taxiway.sql"].split("\n\n", 1)
    assert made.splitlines() == [f"CREATE EXTENSION IF NOT EXISTS {name};" for name in ("pg_cron", "pg_net")]
    async with connected(to.database) as connection:
        await connection.execute(PG_STUBS)
        await connection.execute(rest[0])
        [job] = await connection.fetch("SELECT * FROM cron.job")
        assert (job["jobname"], job["schedule"]) == ("taxiway", "* * * * *")
        assert CRON_SECRET not in job["command"]
        await connection.execute(job["command"])
        [sent] = await connection.fetch("SELECT * FROM net.sent")
    body = sent["body"].encode()
    return Call("POST", to.path(sent["url"]), json.loads(sent["headers"]), sent["timeout_milliseconds"] / 1000, body)


def node() -> str:
    """Where Node.js is; skips the test if there is none."""
    found = shutil.which("node")
    if found is None:
        pytest.skip(NODE_MISSING)
    return found


RUN_WORKER = """
import worker from "./worker.mjs";
const event = { cron: "* * * * *", scheduledTime: Date.now(), type: "scheduled" };
await worker.scheduled(event, JSON.parse(process.env.BINDINGS), { waitUntil() {} });
"""


async def run_worker(folder: Path, files: Mapping[str, str], **bindings: str) -> tuple[int, str]:
    """Run the Worker's scheduled handler in Node; its exit code and what it said."""
    program = node()
    (folder / "worker.mjs").write_text(files["worker.js"])
    (folder / "run.mjs").write_text(RUN_WORKER)
    environment = {"PATH": os.environ["PATH"], "BINDINGS": json.dumps(bindings)}
    done = await anyio.run_process([program, "run.mjs"], cwd=folder, env=environment, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


async def cloudflare(to: Recorder, folder: Path) -> Call:
    """The Worker's own fetch, run in Node."""
    code, said = await run_worker(folder, to.files("cloudflare"), TAXIWAY_URL=to.url, CRON_SECRET=CRON_SECRET)
    assert code == 0, said
    return to.last(120)


CALLERS: dict[str, Callable[[Recorder, Path], Awaitable[Call]]] = {
    "vercel": vercel,
    "vercel-hobby": outside_hobby,
    "cron-job.org": cron_job_org,
    "github-actions": github_actions,
    "google-cloud-scheduler": google,
    "eventbridge": eventbridge,
    "qstash": qstash,
    "pg-cron": pg_cron,
    "cloudflare": cloudflare,
}
