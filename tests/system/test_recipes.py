"""Recipes: each is what its reader expects, and what the caller then does is done to a real Taxiway."""

from __future__ import annotations

import configparser
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml
from typer.testing import CliRunner

from service.__main__ import cli
from service.app import app, create_app
from service.commands.recipe import EXAMPLE_URL, FOLDER, recipes
from service.settings import Settings
from tests.callers import CALLERS, Call, Template, recording, run_worker, shell
from tests.commandline import calls, parse
from tests.simulator_server import on_socket
from tests.world import CRON_SECRET, RUNWAY_KEY, World, world

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
URL = "https://films.example.org/queue"
ASKED = {
    "vercel", "heroku", "render", "railway", "fly", "github-actions", "cron-job.org", "google-cloud-scheduler",
    "eventbridge", "qstash", "pg-cron", "cloudflare", "systemd", "docker",
}  # fmt: skip
FILES = [(name, file) for name, recipe in recipes().items() for file in recipe.files()]
TICKS = {"heroku", "render", "railway", "systemd", "docker"}


def taxiway(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `taxiway recipe`."""
    result = CliRunner().invoke(cli, ["recipe", *arguments])
    return result.exit_code, result.stdout, result.stderr


def content(name: str, file: str) -> str:
    """One file of a recipe."""
    return recipes()[name].files()[file]


class TestCommand:
    def test_without_a_name_it_lists_all_with_a_line_each(self) -> None:
        code, said, _ = taxiway()
        lines = said.splitlines()
        assert code == 0
        assert {line.split()[0] for line in lines} >= ASKED
        assert len(lines) == len([path for path in FOLDER.iterdir() if path.is_file()])
        assert all(len(line.split(maxsplit=1)[1]) > 20 and len(line) <= 120 for line in lines)

    @pytest.mark.parametrize("name", sorted(recipes()))
    def test_the_address_is_filled_in_and_none_is_left(self, name: str) -> None:
        code, said, _ = taxiway(name, "--url", f"{URL}/")
        assert code == 0
        assert EXAMPLE_URL.removeprefix("https://") not in said
        assert said.count(URL) == recipes()[name].text.count(EXAMPLE_URL)
        assert f"{URL}//" not in said

    def test_one_file_alone(self) -> None:
        code, said, _ = taxiway("vercel", "--file", "vercel.json")
        assert (code, json.loads(said)["crons"][0]["path"]) == (0, "/process-queued")

    def test_what_is_not_known_is_one_line_that_names_what_is(self) -> None:
        code, said, error = taxiway("netlify")
        assert (code, said, error.count("\n")) == (1, "", 1)
        assert all(name in error for name in ASKED)
        code, said, error = taxiway("vercel", "--file", "now.json")
        assert (code, said, "api/index.py" in error, error.count("\n")) == (1, "", True, 1)

    @pytest.mark.parametrize(
        "url",
        ["taxiway.example.com", "https://", "https://a.b/$(id)", "https://a.b/'", "https://u:p@a.b", "https://a?b"],
    )
    def test_an_address_that_would_mean_something_else_in_a_shell_is_refused(self, url: str) -> None:
        code, said, error = taxiway("vercel", "--url", url)
        assert (code, said, error.count("\n"), "--url" in error) == (1, "", 1, True)

    @pytest.mark.parametrize("name", sorted(recipes()))
    def test_no_secret_is_printed(self, name: str) -> None:
        text = recipes()[name].text
        assert not re.search(r"Bearer (?![$`]|' \|\| )\S", text.replace("`Bearer `", ""))
        assert not re.search(r"key_[0-9a-f]|whsec_|[0-9a-f]{32}", text)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_every_file_can_be_read(name: str, file: str) -> None:
    text, kind = content(name, file), file.rpartition(".")[2]
    if kind == "json":
        assert json.loads(text)
    elif kind in ("yaml", "yml"):
        assert yaml.load(text, Template)
    elif kind == "toml":
        assert tomllib.loads(text)
    elif kind in ("service", "timer"):
        assert ini(text).sections()
    elif kind == "sh":
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    elif kind == "py":
        compile(text, file, "exec")
    else:
        assert kind in ("js", "sql", "Dockerfile"), f"nothing reads {file}"


def ini(text: str) -> configparser.ConfigParser:
    """A unit of systemd."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parser.read_string(text)
    return parser


@asynccontextmanager
async def call_of(name: str, folder: Path, database: str) -> AsyncIterator[Call]:
    """What a caller with this recipe sends."""
    async with recording(database) as recorder:
        yield await CALLERS[name](recorder, folder)


@asynccontextmanager
async def served(w: World) -> AsyncIterator[str]:
    """The world's Taxiway on a real socket."""
    async with on_socket(create_app(w.ctx)) as url:
        yield url


class Gate(httpx.AsyncBaseTransport):
    """A way to Runway on which the first create is held up until the gate is opened."""

    def __init__(self, inner: httpx.AsyncBaseTransport, arrived: anyio.Event, opened: anyio.Event) -> None:
        self.inner, self.arrived, self.opened = inner, arrived, opened

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.arrived.set()
            await self.opened.wait()
        return await self.inner.handle_async_request(request)


@asynccontextmanager
async def stalled(w: World) -> AsyncIterator[tuple[str, anyio.Event, anyio.Event]]:
    """The same, with a Runway that does not answer until told: the address, a create arrived, and let it answer."""
    arrived, opened, through = anyio.Event(), anyio.Event(), w.ctx.transport
    assert through is not None
    ctx = replace(w.ctx, transport=lambda: Gate(through(), arrived, opened))
    async with on_socket(create_app(ctx)) as url:
        yield url, arrived, opened


async def check_call(call: Call, w: World) -> None:
    """The exact request does one tick; with another secret it does nothing."""
    video = await w.enqueue()
    async with served(w) as url:
        refused = await call.with_secret("another-secret-000").send(url)
        assert (refused.status_code, w.creates) == (401, [])
        answer = await call.send(url)
    assert (answer.status_code, answer.history) == (200, [])
    assert answer.json()["submit"]["accepted"] == 1
    assert len(answer.content) < 64_000
    assert (await w.row(video))["status"] == "processing"
    assert len(w.creates) == 1


async def check_doubles(call: Call, w: World) -> None:
    """Three at once, and one more: one create."""
    await w.enqueue()
    async with served(w) as url:
        answers: list[int] = []

        async def once() -> None:
            answers.append((await call.send(url)).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(once)
        await once()
    assert answers == [200] * 4
    assert len(w.creates) == 1


async def check_hang_up(call: Call, w: World) -> None:
    """It hangs up while Runway works, calls again, and the video still is submitted once."""
    video = await w.enqueue()
    async with stalled(w) as (url, arrived, opened):
        async with anyio.create_task_group() as group:

            async def hung_up_on() -> None:
                await call.send(url)

            group.start_soon(hung_up_on)
            with anyio.fail_after(10):
                await arrived.wait()
            group.cancel_scope.cancel()
        again = await call.send(url)
        assert (again.status_code, again.json()["submit"]["claimed"]) == (200, 0)
        opened.set()
        with anyio.fail_after(10):
            while (await w.row(video))["runway_video_id"] is None:  # noqa: ASYNC110  # it knows no event
                await anyio.sleep(0.01)
    assert len(w.creates) == 1


@pytest.mark.parametrize("name", CALLERS)
class TestCallers:
    """What each caller sends, sent."""

    async def test_its_request_is_answered_by_a_tick(self, name: str, database_url: str, tmp_path: Path) -> None:
        async with call_of(name, tmp_path, database_url) as call, world(database_url) as w:
            await check_call(call, w)

    async def test_doubles_and_overlaps_submit_once(self, name: str, database_url: str, tmp_path: Path) -> None:
        async with call_of(name, tmp_path, database_url) as call, world(database_url) as w:
            await check_doubles(call, w)

    async def test_hanging_up_loses_nothing(self, name: str, database_url: str, tmp_path: Path) -> None:
        async with call_of(name, tmp_path, database_url) as call, world(database_url) as w:
            await check_hang_up(call, w)

    async def test_it_asks_for_less_time_than_it_waits(self, name: str, database_url: str, tmp_path: Path) -> None:
        async with call_of(name, tmp_path, database_url) as call:
            assert call.budget < call.gives_up
            assert "secret" not in call.path


class TestPrograms:
    """Recipes that are programs, run against a served Taxiway."""

    async def test_the_workflow(self, database_url: str, tmp_path: Path) -> None:
        async with world(database_url) as w, served(w) as url:
            text = recipes(url)["github-actions"].files()[".github/workflows/taxiway.yml"]
            workflow: dict[Any, Any] = yaml.safe_load(text)
            assert workflow[True]["schedule"] == [{"cron": "*/5 * * * *"}]  # YAML 1.1 reads `on` as true
            assert workflow["permissions"] == {}
            [step] = workflow["jobs"]["tick"]["steps"]
            await w.enqueue()
            await shell(step["run"], tmp_path)
            assert len(w.creates) == 1
            with pytest.raises(AssertionError, match="401"):
                await shell(step["run"], tmp_path, CRON_SECRET="another-secret-000")

    async def test_the_worker(self, database_url: str, tmp_path: Path) -> None:
        async with world(database_url) as w, served(w) as url:
            files = recipes(url)["cloudflare"].files()
            config = tomllib.loads(files["wrangler.toml"])
            assert (config["main"], config["triggers"]) == ("worker.js", {"crons": ["* * * * *"]})
            await w.enqueue()
            code, said = await run_worker(tmp_path, files, **config["vars"], CRON_SECRET=CRON_SECRET)
            assert (code, json.loads(said)["submit"]["accepted"], len(w.creates)) == (0, 1, 1)
            code, said = await run_worker(tmp_path, files, **config["vars"], CRON_SECRET="another-secret-000")
            assert (code != 0, "Taxiway answered 401" in said) == (True, True)


def command_lines(name: str) -> list[str]:
    """The command lines of a recipe that run this product, wherever they stand."""
    found = []
    for file, text in recipes()[name].files().items():
        if file.endswith(".sh"):
            found.append(text)
        elif file.endswith((".yaml", ".json", ".toml")):
            document = tomllib.loads(text) if file.endswith("toml") else yaml.load(text, Template)
            found += [line for line in strings(document) if "service" in line]
        elif file.endswith(".service"):
            found.append(ini(text)["Service"]["ExecStart"].replace("/opt/taxiway/.venv/bin/", ""))
        elif file == "Dockerfile":
            found.append(shlex.join(dockerfile()["CMD"][0]))
    return [shlex.join(["python", "-m", "service", *call]) for line in found for call in calls(port_given(line))]


def port_given(line: str) -> str:
    """With the port that the host puts in."""
    return line.replace("$PORT", "8000")


def strings(value: object) -> Iterator[str]:
    """Every string in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def dockerfile() -> dict[str, list[list[str]]]:
    """Its instructions by name, each with its words; JSON arrays are read."""
    found: dict[str, list[list[str]]] = {}
    for line in content("docker", "Dockerfile").splitlines():
        name, rest = line.split(maxsplit=1)
        found.setdefault(name, []).append(json.loads(rest) if rest.startswith("[") else shlex.split(rest))
    return found


async def run_line(line: str, database: str, folder: Path = ROOT, **settings: str) -> str:
    """Run a command line as a process of its own; what it printed."""
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database, "RUNWAYML_API_SECRET": RUNWAY_KEY}
    words = [sys.executable if word == "python" else word for word in shlex.split(line)]
    done = await anyio.run_process(words, cwd=folder, env=environment | settings, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def check_tick(w: World, line: str, folder: Path = ROOT) -> None:
    """A command line that ticks submits what is queued, once."""
    await w.enqueue()
    async with on_socket(w.runway) as runway:
        counts = json.loads(await run_line(line, w.url, folder, RUNWAYML_BASE_URL=runway))
    assert (counts["submit"]["accepted"], len(w.creates)) == (1, 1)


class TestCommands:
    """Recipes whose callers run a command."""

    @pytest.mark.parametrize("name", sorted(TICKS | {"fly"}))
    def test_every_command_is_understood(self, name: str) -> None:
        lines = command_lines(name)
        assert lines
        for line in lines:
            parse(shlex.split(line)[3:])
        worked = {shlex.split(line)[3] for line in lines}
        assert worked & {"tick", "worker"}

    @pytest.mark.parametrize("name", ["heroku", "systemd"])  # with a budget and without; processes are slow
    async def test_its_tick_submits_once(self, name: str, w: World) -> None:
        [line] = [line for line in command_lines(name) if " service tick" in line]
        await check_tick(w, line)

    async def test_what_the_image_holds_is_enough(self, empty_database_url: str, tmp_path: Path) -> None:
        copied = [source for *sources, _ in dockerfile()["COPY"] for source in sources]
        for source in copied:
            assert (ROOT / source).exists(), source
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        [install] = dockerfile()["RUN"]
        assert install[install.index("-r") + 1] in copied
        assert "applied 0001" in await run_line("python -m service migrate", empty_database_url, tmp_path)
        async with world(empty_database_url) as w:
            await check_tick(w, "python -m service tick", tmp_path)


class TestVercel:
    def test_the_function_serves_the_app_and_is_killed_when_the_settings_say(self) -> None:
        config, text = json.loads(content("vercel", "vercel.json")), recipes()["vercel"].text
        [(path, function)] = config["functions"].items()
        assert f"/{path.removesuffix('.py')}" == config["rewrites"][0]["destination"]
        (hard_limit,) = re.findall(r"`HARD_LIMIT=(\d+)`", text)
        (budget,) = re.findall(r"`TICK_BUDGET=(\d+)`", text)
        assert float(hard_limit) == function["maxDuration"]
        settings = Settings(hard_limit=float(hard_limit), tick_budget=float(budget))
        assert settings.hard_limit == function["maxDuration"] <= 300

    def test_its_module_is_the_app(self, tmp_path: Path) -> None:
        module = tmp_path / "index.py"
        module.write_text(content("vercel", "api/index.py"))
        assert runpy.run_path(str(module))["app"] is app

    def test_hobby_is_recognized(self) -> None:
        [daily] = json.loads(content("vercel", "hobby.json"))["crons"]
        minute, hour, *rest = daily["schedule"].split()
        assert (minute.isdigit(), hour.isdigit(), rest) == (True, True, ["*"] * 3)
        assert "once a day" in recipes()["vercel"].text
        assert content("vercel", "outside-caller.sh") == content("cron-job.org", "create-job.sh")


class TestHosts:
    """Facts that each host is known for."""

    def test_eventbridge_can_make_no_storm(self) -> None:
        document: dict[str, Any] = yaml.load(content("eventbridge", "taxiway.yaml"), Template)
        of = {name: one["Properties"] for name, one in document["Resources"].items()}
        [target] = of["EveryMinute"]["Targets"]
        assert target["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
        assert document["Parameters"]["CronSecret"]["NoEcho"] is True
        named = {text.partition(".")[0] for function, text in functions(document) if function == "!GetAtt"}
        assert named <= set(of)

    def test_render(self) -> None:
        document: dict[str, Any] = yaml.safe_load(content("render", "render.yaml"))
        by_type = {service["type"]: service for service in document["services"]}
        assert by_type["web"]["healthCheckPath"] == "/health/live"
        assert by_type["cron"]["schedule"] == "* * * * *"
        databases = {database["name"] for database in document["databases"]}
        asked = {var["key"]: var for var in by_type["web"]["envVars"]}
        for service in by_type.values():
            for var in service["envVars"]:
                assert set(var) - {"key"} <= {"fromDatabase", "fromService", "generateValue", "sync"}
                if "fromDatabase" in var:
                    assert var["fromDatabase"]["name"] in databases
                if "fromService" in var:
                    assert var["fromService"]["name"] == by_type["web"]["name"]
                    assert var["fromService"]["envVarKey"] in asked

    def test_railway_ticks_as_often_as_it_can_and_waits_for_what_was_sent(self) -> None:
        files = {name: json.loads(text)["deploy"] for name, text in recipes()["railway"].files().items()}
        assert files["railway.tick.json"]["cronSchedule"] == "*/5 * * * *"
        assert files["railway.tick.json"]["restartPolicyType"] == "NEVER"
        for name in ("railway.json", "railway.worker.json"):
            assert files[name]["drainingSeconds"] > Settings().post_timeout

    def test_fly(self) -> None:
        document = tomllib.loads(content("fly", "fly.toml"))
        assert document["kill_timeout"] > Settings().post_timeout
        assert set(document["processes"]) == {"web", "worker"}
        assert document["http_service"]["processes"] == ["web"]
        port = shlex.split(document["processes"]["web"])[-1]
        assert int(port) == document["http_service"]["internal_port"]

    @pytest.mark.parametrize("name", ["vercel", "heroku", "render", "railway", "fly", "docker", "systemd"])
    def test_each_says_how_long_a_request_may_wait_there(self, name: str) -> None:
        text = recipes()[name].text
        most = {"heroku": 30, "fly": 60}.get(name, 61)  # seconds until its proxy gives up
        [wait] = re.findall(r"`Prefer: wait=(\d+)`", text)
        assert 0 < int(wait) < most
        assert "GETs that submit fit" in text
        assert "HARD_LIMIT" in text

    def test_heroku_stays_below_the_router(self) -> None:
        text = recipes()["heroku"].text
        [seconds] = re.findall(r"/process-queued\?budget=(\d+)", text)
        assert int(seconds) < 30
        ten_minutes = 600
        [line] = [line for line in command_lines("heroku") if " tick" in line]
        assert int(shlex.split(line)[-1]) < ten_minutes

    def test_docker_composes(self) -> None:
        document: dict[str, Any] = yaml.safe_load(content("docker", "compose.yaml"))
        services = document["services"]
        for one in services.values():
            assert set(one.get("depends_on", {})) <= set(services)
        used = {word for line in strings(document) for word in re.findall(r"\$\{(\w+)", line)}
        assert used == {"POSTGRES_PASSWORD", "RUNWAYML_API_SECRET", "API_KEYS", "CRON_SECRET"}
        assert all(name in recipes()["docker"].text.partition("```yaml")[0] for name in used)

    def test_systemd_runs_one_at_a_time(self) -> None:
        service, timer = (
            ini(content("systemd", f"/etc/systemd/system/taxiway-tick.{kind}")) for kind in ("service", "timer")
        )
        assert service["Service"]["Type"] == "oneshot"
        assert "OnUnitInactiveSec" in timer["Timer"]
        assert timer["Install"]["WantedBy"] == "timers.target"


def functions(value: object) -> Iterator[tuple[str, str]]:
    """Every short function in a CloudFormation template."""
    if isinstance(value, tuple):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from functions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from functions(inner)
