"""The embedded server: its data outlives it, and it says what is wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.errors import BadSettings, DatabaseUnavailable
from service.local.postgres import LOG_BYTES, Server
from service.local.postgres_home import (
    Account,
    Binaries,
    Home,
)
from service.local.processes import command_of
from tests.database import connected, execute, run

Make = Callable[..., Server]


def ask(server: Server, sql: str) -> Any:
    async def fetch() -> Any:
        async with connected(server.url()) as connection:
            return await connection.fetchval(sql)

    return run(fetch())


def pid_of(server: Server) -> int:
    assert server._process
    return server._process.pid


# Start and stop


def test_data_survives_a_restart_and_not_a_fresh_start(make_server: Make) -> None:
    with make_server() as server:
        run(execute(server.url(), "CREATE TABLE kept AS SELECT 'ä' AS letter"))
    with server:
        assert ask(server, "SELECT upper(letter) FROM kept") == "Ä"
        assert ask(server, "SHOW timezone") == "UTC"
    server.start(fresh=True)
    assert ask(server, "SELECT to_regclass('kept')") is None


def test_nothing_is_left_after_stop(make_server: Make) -> None:
    server = make_server()
    server.start()
    assert server._watcher
    pids = pid_of(server), server._watcher.pid
    server.stop()
    server.stop()
    assert [command_of(pid) for pid in pids] == ["", ""]
    assert not server.home.sockets.exists()


@pytest.mark.parametrize(("durable", "fsync"), [(True, "on"), (False, "off")])
def test_what_is_written_stays_unless_fsync_is_off(make_server: Make, durable: bool, fsync: str) -> None:
    with make_server(durable=durable) as server:
        assert ask(server, "SHOW fsync") == fsync


def test_the_database_is_made_again_when_somebody_dropped_it(make_server: Make) -> None:
    with make_server() as server:
        run(execute(server.url("postgres"), "DROP DATABASE taxiway"))
    with server:
        assert ask(server, "SELECT current_database()") == "taxiway"


def test_the_terminals_signals_and_our_secrets_do_not_reach_it(
    make_server: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEYS", "a-secret-of-ours")
    with make_server() as server:
        assert os.getsid(pid_of(server)) != os.getsid(0)
        environment = Path(f"/proc/{pid_of(server)}/environ")
        if not environment.exists():
            pytest.skip("no /proc on this system")
        assert b"a-secret-of-ours" not in environment.read_bytes()


def test_a_long_log_is_begun_anew(make_server: Make, data_folder: Path) -> None:
    data_folder.mkdir()
    (data_folder / "postgres.log").write_bytes(b"x" * (LOG_BYTES + 1))
    with make_server() as server:
        assert 0 < server.log_path.stat().st_size < LOG_BYTES
    size = server.log_path.stat().st_size
    with server:
        assert server.log_path.stat().st_size > size


# What a start finds


@pytest.mark.parametrize(
    "content",
    ["", "garbage", f"{os.getpid()}\n/elsewhere\n", f"{2**22 + 1}\n/gone\n"],
    ids=["empty", "garbage", "another process", "gone"],
)
def test_a_stale_pid_file_stops_nobody(make_server: Make, content: str) -> None:
    with make_server() as server:
        pass
    (server.home.data / "postmaster.pid").write_text(content)
    with server:
        assert ask(server, "SELECT 1") == 1


def test_half_a_data_directory_is_thrown_away(make_server: Make) -> None:
    server = make_server()
    server.home.ctx.mkdir(parents=True)
    half = server.home.ctx / "initdb-half"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with server:
        assert not half.exists()


def test_data_of_another_version_is_named_and_kept(make_server: Make) -> None:
    with make_server() as server:
        pass
    (server.home.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(BadSettings, match=r"PostgreSQL 9, .*--fresh"):
        server.start()
    assert server.home.data.exists()
    server.start(fresh=True)
    assert ask(server, "SELECT 1") == 1


def test_postgres_that_does_not_start_says_why_and_lets_go(make_server: Make) -> None:
    with make_server() as server:
        pass
    configuration = server.home.data / "postgresql.conf"
    configuration.write_text("no_such_setting = 1\n")
    with pytest.raises(DatabaseUnavailable, match="no_such_setting"):
        server.start()
    configuration.write_text("")
    server.start()


def test_initdb_that_fails_says_why(make_server: Make, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    for name in ("bin/initdb", "bin/postgres", "share/postgresql/postgres.bki", "lib/postgresql/x.so"):
        (broken / name).parent.mkdir(parents=True, exist_ok=True)
        (broken / name).write_text("")
    server = make_server(binaries=Binaries(broken, 18))
    with pytest.raises(DatabaseUnavailable, match="initdb failed"):
        server.start()
    if server.binaries.root != broken:  # root's copy
        shutil.rmtree(server.binaries.root.parents[1])


def test_an_account_that_cannot_run_it_is_an_error_that_says_so(make_server: Make, tmp_path: Path) -> None:
    ourselves = None if os.geteuid() == 0 else Account(os.geteuid(), os.getegid())
    home = Home(tmp_path / "data", tmp_path / "data" / "postgres", tmp_path / "run", ourselves)
    with pytest.raises(DatabaseUnavailable, match=r"cannot be run as root|not permitted"):
        make_server(home=home).start()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match="cannot be written"):
        Server(tmp_path / "file" / "data").start()
