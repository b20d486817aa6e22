"""The command line: every command as a process, what it prints, and how it ends.

What one says before it begins is the same in this process, and comes a second sooner.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner

from service import context as contexts
from service.__main__ import cli as entry
from service.app import create_app
from service.local.processes import command_of, until
from service.serving import listen
from service.simulator.app import Simulator, SimulatorOptions, create_simulator
from tests import invoking
from tests.commands import PATIENCE_SECONDS, ROOT, command, run_command, running
from tests.database import connected, execute, run
from tests.ports import free_port
from tests.simulator_server import on_socket
from tests.world import API_KEY, CALLBACK_SECRET, CRON_SECRET, IMAGE, RUNWAY_KEY, settings, world

pytestmark = pytest.mark.anyio

VIDEOS, TICKS_AT_ONCE = 200, 4
QUEUE = f"""
    INSERT INTO taxiway.videos (user_id, prompt, image_url, status)
    SELECT 'someone', 'video ' || n, '{IMAGE}', 'queued' FROM generate_series(1, {VIDEOS}) AS n
"""


def environment(database_url: str, runway_url: str = "http://127.0.0.1:9") -> dict[str, str]:
    """A complete environment. Nobody listens on the discard port."""
    return {
        "DATABASE_URL": database_url,
        "RUNWAYML_API_SECRET": RUNWAY_KEY,
        "RUNWAYML_BASE_URL": runway_url,
        "API_KEYS": API_KEY,
        "CRON_SECRET": CRON_SECRET,
        "CALLBACK_SECRETS": CALLBACK_SECRET,
    }


async def fetch(database_url: str, sql: str) -> list[asyncpg.Record]:
    async with connected(database_url) as connection:
        return await connection.fetch(sql)


async def eventually(condition: Callable[[], bool]) -> bool:
    """Wait in another thread: this one may be serving."""
    return await asyncio.to_thread(until, condition, PATIENCE_SECONDS)


def sees(database_url: str, sql: str) -> bool:
    """Whether the query finds a row."""
    return bool(run(fetch(database_url, sql)))


@dataclass
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str


async def taxiway(*arguments: object, **values: str) -> Answer:
    """Run a command to its end while this process goes on serving."""
    ended = await asyncio.to_thread(run_command, *arguments, **values)
    return Answer(ended.returncode, ended.stdout, ended.stderr)


# web


async def test_web_serves_until_sigterm(database_url: str, tmp_path: Path) -> None:
    port = free_port()
    with command(tmp_path, "web", "--port", port, **environment(database_url)) as web:
        await asyncio.to_thread(web.wait_for, f"listening on http://127.0.0.1:{port}")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert (await client.get("/health/live")).json() == {"status": "alive"}
            assert (await client.get("/health/ready")).status_code == 200
        assert web.end() == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_web_says_when_its_port_is_taken(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        other = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with other:
        port = other.getsockname()[1]
        answer = await invoking.taxiway(None, "web", "--host", host, "--port", port)
    assert invoking.complaint(answer).startswith(f"taxiway: port {port} on {host} is in use")


async def test_an_answer_is_not_held_back_until_its_beginning_was_acknowledged() -> None:
    at_once: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_once.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen("127.0.0.1", 0) as listener:
        async with await asyncio.start_server(note, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            assert await at_once
            writer.close()


# worker, tick, poll


async def test_worker_completes_a_video_and_ends_on_sigterm(database_url: str, tmp_path: Path) -> None:
    async with on_socket(create_simulator(SimulatorOptions(speed=50))) as runway_url:
        values = environment(database_url, runway_url)
        with command(tmp_path, "worker", "--every", 0.2, **values) as worker:
            async with world(database_url) as w:
                video_id = await w.enqueue()
            completed = f"SELECT FROM taxiway.videos WHERE id = '{video_id}' AND status = 'completed'"
            assert await eventually(lambda: sees(database_url, completed)), worker.log
            assert await asyncio.to_thread(worker.end) == 0


async def test_worker_goes_on_while_the_database_is_away(tmp_path: Path) -> None:
    with command(tmp_path, "worker", **environment("postgresql://x@127.0.0.1:9/x")) as worker:
        await asyncio.to_thread(worker.wait_for, "The database does not answer")
        assert await asyncio.to_thread(worker.end) == 0
        assert "Traceback" not in worker.log


async def test_four_ticks_at_once_pay_each_video_once(database_url: str) -> None:
    runway: Simulator = create_simulator(SimulatorOptions(speed=1))
    await execute(database_url, QUEUE)
    async with on_socket(runway) as runway_url:
        values = environment(database_url, runway_url)
        answers = await asyncio.gather(*(taxiway("tick", **values) for _ in range(TICKS_AT_ONCE)))
    assert [answer.code for answer in answers] == [0] * TICKS_AT_ONCE, answers
    counts = [json.loads(answer.out) for answer in answers]
    assert sum(each["submit"]["accepted"] for each in counts) == VIDEOS
    entries = runway.state.runway.ledger.entries
    assert sorted(entry.prompt for entry in entries) == sorted(f"video {n}" for n in range(1, VIDEOS + 1))
    rows = await fetch(database_url, "SELECT runway_video_id AS id FROM taxiway.videos WHERE status = 'processing'")
    assert {row["id"] for row in rows} == {entry.task_id for entry in entries}
    ledger = await fetch(database_url, "SELECT DISTINCT video_id FROM taxiway.submissions WHERE outcome = 'accepted'")
    assert len(ledger) == len(rows) == VIDEOS


async def test_tick_prints_one_line_of_json(database_url: str) -> None:
    answer = await taxiway("tick", "--budget", 4, **environment(database_url))
    assert (answer.code, answer.err) == (0, "")
    [line] = answer.out.splitlines()
    assert json.loads(line)["submit"]["claimed"] == 0


async def test_a_tick_with_a_broken_step_says_which_and_fails(database_url: str) -> None:
    await execute(database_url, "ALTER TABLE taxiway.models RENAME TO gone")
    answer = await invoking.taxiway(database_url, "tick")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["errors"]


async def test_poll_once_and_in_a_loop(database_url: str, tmp_path: Path) -> None:
    [counts] = invoking.printed(await invoking.taxiway(database_url, "poll"))
    assert counts["poll"]["polled"] == 0
    with command(tmp_path, "poll", "--every", 0.1, **environment(database_url)) as poller:
        twice = "SELECT count(*) FROM taxiway.ticks WHERE kind = 'poll' HAVING count(*) > 2"
        assert await eventually(lambda: sees(database_url, twice)), poller.log
        assert await asyncio.to_thread(poller.end, signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ["RUNWAYML_API_SECRET"]),
        ({"RUNWAYML_API_SECRET": RUNWAY_KEY, "MAX_CREDITS_PER_DAY": "9"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "mysql://localhost/videos"}, ["DATABASE_URL"]),
        ({"HARD_LIMIT": "30", "TICK_BUDGET": "40"}, ["HARD_LIMIT", "TICK_BUDGET"]),
        (
            {"DATABASE_URL": "postgresql://localhost/v?color=red", "SUBMIT_CONCURRENCY": "many"},
            ["color", "SUBMIT_CONCURRENCY"],
        ),
        (
            {
                "RUNWAYML_API_SECRET": RUNWAY_KEY,
                "MAX_CREDITS_PER_DAY": "9",
                "DATABASE_URL": "postgresql://x@127.0.0.1:9/x",
            },
            ["does not answer"],
        ),
    ],
)
def test_what_is_wrong_with_the_settings_is_said_in_lines(values: dict[str, str], words: list[str]) -> None:
    ended = CliRunner().invoke(entry, ["tick"], env=values)
    assert ended.exit_code == 1
    lines = ended.stderr.splitlines()
    assert all(line.startswith("taxiway: ") for line in lines), ended.stderr
    assert all(any(word in line for line in lines) for word in words), ended.stderr
    assert ended.stdout == ""


# migrate


def test_migrate_twice(empty_database_url: str) -> None:
    first = invoking.invoke(empty_database_url, "migrate")
    assert (first.exit_code, first.stdout.splitlines()[0]) == (0, "applied 0001_taxiway")
    second = invoking.invoke(empty_database_url, "migrate")
    assert (second.exit_code, second.stdout) == (0, "the schema is up to date\n")


def test_migrate_without_a_database_names_the_setting() -> None:
    ended = run_command("migrate")
    assert ended.returncode == 1
    assert "DATABASE_URL" in ended.stderr


# simulate, callback


async def test_simulate_runs_the_simulator_alone(tmp_path: Path) -> None:
    port = free_port()
    with command(tmp_path, "simulate", "--port", port, "--credits", 77) as simulator:
        await asyncio.to_thread(simulator.wait_for, "listening")
        headers = {"authorization": f"Bearer {RUNWAY_KEY}", "x-runway-version": "2024-11-06"}
        async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
            organization = (await client.get(f"http://127.0.0.1:{port}/v1/organization")).json()
        assert organization["creditBalance"] == 77
        assert f"http://127.0.0.1:{port}" in simulator.said
        assert simulator.end() == 0


async def test_simulate_plays_the_relay_only_with_a_secret(database_url: str, tmp_path: Path) -> None:
    relay = ("--relay-url", "http://127.0.0.1:9/callbacks/runway")
    answer = await invoking.taxiway(None, "simulate", "--port", free_port(), *relay)
    assert "CALLBACK_SECRETS" in invoking.complaint(answer)
    with command(tmp_path, "simulate", "--port", free_port(), *relay, CALLBACK_SECRETS=CALLBACK_SECRET) as simulator:
        await asyncio.to_thread(simulator.wait_for, "listening")
        assert await asyncio.to_thread(simulator.end) == 0


async def test_callback_completes_a_video(database_url: str) -> None:
    runway = create_simulator(SimulatorOptions(speed=1000))
    async with on_socket(runway) as runway_url:
        ctx = contexts.build(settings(database_url, runway_url=runway_url))
        async with on_socket(create_app(ctx)) as url:
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                body = {"input": {"promptText": "a boat", "promptImage": IMAGE}}
                await client.post("/videos", json=body, headers={"authorization": f"Bearer {API_KEY}"})
                await client.post("/process-queued", headers={"authorization": f"Bearer {CRON_SECRET}"})
            [row] = await fetch(database_url, "SELECT id, runway_video_id FROM taxiway.videos")
            assert await eventually(lambda: runway_has_finished(runway, row["runway_video_id"]))
            listens = ("--url", f"{url}/callbacks/runway")
            values = {"CALLBACK_SECRETS": CALLBACK_SECRET}
            sent = await taxiway("callback", row["runway_video_id"], *listens, "--video", row["id"], **values)
            assert sent.code == 0, sent
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                await client.post("/process-queued", headers={"authorization": f"Bearer {CRON_SECRET}"})
            [after] = await fetch(database_url, "SELECT status FROM taxiway.videos")
            other = {"CALLBACK_SECRETS": "whsec_" + CALLBACK_SECRET.removeprefix("whsec_")[::-1]}
            forged = await invoking.taxiway(None, "callback", row["runway_video_id"], *listens, **other)
    assert after["status"] == "completed"
    assert forged.exit_code == 1
    assert json.loads(forged.stdout)["status"] == 401


def runway_has_finished(runway: Simulator, task_id: str) -> bool:
    """Whether its own book-keeping says so, without a look by the service."""
    state: Any = runway.state.runway
    return bool(state.tasks[task_id].status(state.advance()) == "SUCCEEDED")


async def test_callback_says_when_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}/callbacks/runway"
    answer = await invoking.taxiway(None, "callback", "a-task", "--url", url, CALLBACK_SECRETS=CALLBACK_SECRET)
    assert invoking.complaint(answer).startswith(f"taxiway: {url} does not answer")


# The group


def test_without_a_command_it_lists_them() -> None:
    said = CliRunner().invoke(entry, []).output
    assert all(name in said for name in ("dev", "web", "worker", "tick", "poll", "migrate", "simulate", "callback"))


# The Procfile


@pytest.fixture
def honcho(database_url: str) -> tuple[list[str], dict[str, str], int]:
    """A Procfile runner, the environment of a platform, and its port."""
    program = Path(sys.executable).with_name("honcho")
    if not program.exists():
        pytest.skip("honcho is not installed")
    port = free_port()
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    values = environment(database_url) | {"PORT": str(port), "PATH": path}
    line = [str(program), "--no-colour", "-e", os.devnull, "-f", str(ROOT / "Procfile"), "start"]
    return line, values, port


def test_the_release_line_migrates(
    honcho: tuple[list[str], dict[str, str], int], empty_database_url: str, tmp_path: Path
) -> None:
    line, values, _ = honcho
    with running(tmp_path, [*line, "release"], **values | {"DATABASE_URL": empty_database_url}) as release:
        assert release.process.wait(PATIENCE_SECONDS) == 0, release.log
    assert "applied 0001_taxiway" in release.said
    assert sees(empty_database_url, "SELECT FROM taxiway.migrations")


def test_the_other_lines_run_side_by_side_until_sigterm(
    honcho: tuple[list[str], dict[str, str], int], database_url: str, tmp_path: Path
) -> None:
    line, values, port = honcho
    with running(tmp_path, [*line, "web", "worker", "poller"], **values) as procfile:
        procfile.wait_for(f"listening on http://0.0.0.0:{port}")
        assert httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False).status_code == 200
        both = "SELECT count(DISTINCT kind) FROM taxiway.ticks HAVING count(DISTINCT kind) = 2"
        assert until(lambda: sees(database_url, both), PATIENCE_SECONDS), procfile.said
        pids = [int(pid) for pid in re.findall(r"started \(pid=(\d+)\)", procfile.said + procfile.log)]
        assert len(pids) == 3
        procfile.end()
        assert not any(map(command_of, pids))
    connections = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert until(lambda: not sees(database_url, connections), PATIENCE_SECONDS)
    assert "Traceback" not in procfile.said + procfile.log
