"""PgBouncer in transaction mode, in front of a server of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from service.local.processes import until
from tests.crash.cutting import place
from tests.ports import free_port

PATIENCE_SECONDS = 20.0
# Fewer sessions than the service has connections: transactions of all of them take turns on each.
SESSIONS = 3
CONFIGURATION = """
[databases]
* = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
server_round_robin = 1
"""


class Pooler:
    """One PgBouncer in front of a server."""

    def __init__(self, server_url: str, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._server_url = server_url
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database_url: str) -> str:
        """The URL of this database behind the pooler, as Supabase hands it out."""
        database = urlsplit(database_url).path
        return f"postgresql://anybody@127.0.0.1:{self.port}{database}?pgbouncer=true&sslmode=disable"

    def start(self) -> None:
        """Return when it answers."""
        host, port = place(self._server_url)
        parts = urlsplit(self._server_url)
        target = {"host": host, "port": str(port), "user": unquote(parts.username or "postgres")}
        target |= {"password": unquote(parts.password)} if parts.password else {}
        words = " ".join(f"{name}='{value}'" for name, value in target.items())
        file = self.folder / "pgbouncer.ini"
        file.write_text(CONFIGURATION.format(target=words, port=self.port, sessions=SESSIONS), encoding="utf-8")
        who: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses root; a socket's folder is open to its owner alone
            uid = Path(host).stat().st_uid if host.startswith("/") else pwd.getpwnam("nobody").pw_uid
            uid = uid or pwd.getpwnam("nobody").pw_uid
            self.folder.chmod(0o700)
            for path in (self.folder, file):
                os.chown(path, uid, -1)
            who = {"user": uid, "group": pwd.getpwuid(uid).pw_gid, "extra_groups": ()}
        with (self.folder / "log").open("ab") as log:
            command = [program(), "--quiet", str(file)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **who)
        process = self._process
        until(lambda: process.poll() is not None or answers(self.port), PATIENCE_SECONDS)
        assert process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")

    def kill(self) -> None:
        """kill -9"""
        if self._process:
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)


def program() -> str:
    """PgBouncer; it may lie where an ordinary user's PATH does not lead."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("there is no PgBouncer here: run `apt-get install pgbouncer`")
    return found


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def pooler_of(server_url: str) -> Iterator[Pooler]:
    """A running one, ended with all that it kept."""
    folder = Path(tempfile.mkdtemp(prefix="taxiway-pooler-"))
    made = Pooler(server_url, folder)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder, ignore_errors=True)
