"""The embedded server beside others: parents that die, folders in use, root, other users."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import BadSettings, DatabaseUnavailable
from service.local.postgres import Server
from service.local.postgres_home import (
    Home,
    account_for,
    copied,
    find_binaries,
    find_home,
)
from service.local.processes import command_of, until
from tests.database import connected, execute, run

Make = Callable[..., Server]

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120
PARENT = """
import sys
from pathlib import Path
from service.local.postgres import Server
server = Server(Path(sys.argv[1]), durable=False)
server.start()
print(server._process.pid, server._watcher.pid, flush=True)
sys.stdin.read()
"""


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what only root meets")


@pytest.fixture
def parent(data_folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the server of the same folder."""
    command = [sys.executable, "-c", PARENT, str(data_folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def ask(server: Server, sql: str) -> Any:
    async def fetch() -> Any:
        async with connected(server.url()) as connection:
            return await connection.fetchval(sql)

    return run(fetch())


def children_of(parent: subprocess.Popen[str]) -> tuple[int, int]:
    assert parent.stdout
    postgres, watcher = parent.stdout.readline().split()
    return int(postgres), int(watcher)


def gone(pid: int) -> bool:
    return until(lambda: not command_of(pid), PATIENCE_SECONDS)


def pid_of(server: Server) -> int:
    assert server._process
    return server._process.pid


# The parent dies


def test_the_server_goes_with_a_killed_parent(make_server: Make, parent: subprocess.Popen[str]) -> None:
    postgres, watcher = children_of(parent)
    parent.kill()
    assert gone(postgres)
    assert gone(watcher)
    with make_server() as server:
        assert ask(server, "SELECT 1") == 1


def test_a_server_left_behind_is_ended_by_the_next_start(make_server: Make, parent: subprocess.Popen[str]) -> None:
    left, watcher = children_of(parent)
    os.kill(watcher, signal.SIGKILL)
    parent.kill()
    parent.wait(PATIENCE_SECONDS)
    assert command_of(left)
    with make_server() as server:
        assert pid_of(server) != left
        assert not command_of(left)
        assert ask(server, "SELECT 1") == 1


def test_one_folder_one_server(make_server: Make, data_folder: Path) -> None:
    with make_server(), pytest.raises(BadSettings, match="--data") as caught:
        make_server().start()
    assert str(data_folder) in str(caught.value)
    make_server().start()


# As root, and beside others


def test_data_of_a_folder_that_was_deleted_is_not_taken_up_again(
    make_server: Make, data_folder: Path, tmp_path: Path
) -> None:
    home = find_home(data_folder)
    if not home.link:  # as root's, without root
        apart = find_home(data_folder, uid=0, shared_roots=(tmp_path,))
        home = Home(home.folder, apart.data, home.sockets, None)
    with make_server(home=home) as server:
        run(execute(server.url(), "CREATE TABLE kept AS SELECT 1"))
    with server:
        assert ask(server, "SELECT to_regclass('kept')") == "kept"
    shutil.rmtree(data_folder)
    with server:
        assert ask(server, "SELECT to_regclass('kept')") is None


@only_root
def test_root_in_a_folder_that_only_root_may_enter(make_server: Make, tmp_path: Path, data_folder: Path) -> None:
    tmp_path.chmod(0o700)
    binaries = copied(find_binaries(), tmp_path)
    with make_server(binaries=binaries) as server:
        assert ask(server, "SELECT 1") == 1
        found = server.home.data.stat()
        assert (found.st_uid != 0, found.st_mode & 0o777) == (True, 0o700)
        assert not server.binaries.root.is_relative_to(tmp_path)
        copy = server.binaries.root.parents[1]
    shutil.rmtree(copy)
    assert (data_folder / "postgres").readlink() == server.home.data
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@only_root
def test_roots_server_can_also_live_in_the_data_folder(make_server: Make) -> None:
    open_to_all = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    open_to_all.chmod(0o755)
    try:
        account = account_for(open_to_all / "postgres")
        home = Home(open_to_all, open_to_all / "postgres", open_to_all / "s", account)
        server = make_server(home=home)
        with server:
            assert ask(server, "SELECT 1") == 1
        server.remove()
        assert not home.data.exists()
    finally:
        shutil.rmtree(open_to_all)


def test_data_that_another_user_keeps_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path / "house" / "postgres", tmp_path / "run", None)
    (tmp_path / "postgres").mkdir()
    server = Server(tmp_path, home=home)
    with pytest.raises(BadSettings, match="another user"):
        server.start()
    server.remove()
    assert (tmp_path / "postgres").is_dir()


def test_a_server_that_does_not_end_is_named(make_server: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    server = make_server()
    server.start()
    with monkeypatch.context() as patch:
        patch.setattr("service.local.postgres.STOP_LADDER", ())
        with pytest.raises(DatabaseUnavailable, match=str(pid_of(server))):
            server.stop()
    server.stop()


def test_a_leftover_that_does_not_end_is_named(
    make_server: Make, parent: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, watcher = children_of(parent)
    os.kill(watcher, signal.SIGKILL)
    parent.kill()
    parent.wait(PATIENCE_SECONDS)
    with monkeypatch.context() as patch:
        patch.setattr("service.local.postgres.STOP_LADDER", ())
        with pytest.raises(DatabaseUnavailable, match=str(left)):
            make_server().start()
    make_server().start()
    assert not command_of(left)
