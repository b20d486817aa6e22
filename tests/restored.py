"""Servers that go back in time, or are copied, as backups and failovers do it: with PostgreSQL's own programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from service.local.postgres import Server
from service.local.postgres_home import find_binaries
from service.local.processes import until
from tests.kept import PATIENCE_SECONDS

# In archive recovery, with an archive that has nothing: up to the end of what the copy has, and from there on a
# timeline of its own, as after a restore to a point in time, and after a switchover.
RECOVER = "restore_command = 'false'\nrecovery_target_timeline = 'latest'\n"


def program(name: str) -> str:
    """One of PostgreSQL's client programs, which root may run as well."""
    return find_binaries().program(name)


def backup(server: Server, folder: Path) -> Path:
    """The files of a running server as they are now; `folder` must be new."""
    command = [program("pg_basebackup"), "-h", str(server.home.sockets), "-U", "postgres", "-D", str(folder)]
    command += ["--checkpoint=fast", "--no-sync", "--wal-method=stream"]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS)
    return folder


def restore(server: Server, files: Path, *, new_timeline: bool = False) -> None:
    """Start the server on these files, instead of those that it has."""
    data = server.home.data
    if not data.exists():
        server.start()  # it makes what else a server needs
    server.stop()
    shutil.rmtree(data)
    shutil.copytree(files, data)
    _begin(server, new_timeline=new_timeline)


def switch_over(server: Server) -> None:
    """Start the server again on all that it has, on a new timeline: a standby that had everything took over."""
    server.stop()
    _begin(server, new_timeline=True)


def _begin(server: Server, *, new_timeline: bool) -> None:
    data = server.home.data
    if new_timeline:
        (data / "recovery.signal").touch()
        with (data / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
            settings.write(RECOVER)
    data.chmod(0o700)
    if account := server.home.account:
        for path in (data, *data.rglob("*")):
            os.chown(path, account.uid, account.gid)
    server.start()
    assert until(lambda: not is_recovering(server), PATIENCE_SECONDS)


def is_recovering(server: Server) -> bool:
    """Whether it takes no writes yet."""
    command = [program("psql"), "-h", str(server.home.sockets), "-U", "postgres", "-At"]
    command += ["-c", "SELECT pg_is_in_recovery()"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "t"


def dump(url_socket: Path, database: str, *options: str) -> str:
    """The database as `pg_dump` writes it."""
    command = [program("pg_dump"), "-h", str(url_socket), "-U", "postgres", *options, database]
    done = subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS, text=True)
    return done.stdout


def load(url_socket: Path, database: str, sql: str) -> None:
    """Run a dump in a database."""
    command = [program("psql"), "-h", str(url_socket), "-U", "postgres", "-q", "-v", "ON_ERROR_STOP=1", database]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS, text=True, input=sql)
