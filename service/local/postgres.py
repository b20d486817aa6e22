"""A PostgreSQL server of one's own, for a laptop and for tests: started with us, and gone with us.

It listens on a unix socket only. Its parent decides when it ends: Ctrl-C does not reach it, and if the parent
dies without a word, a watcher shuts it down. What survives even that is ended by the next start.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from io import BufferedWriter
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import asyncpg

from service.errors import BadSettings, DatabaseUnavailable
from service.local.postgres_home import (
    Binaries,
    Home,
    find_binaries,
    find_home,
    is_ready,
    private,
    read_pid,
    runnable,
)
from service.local.processes import command_of, end, until, watch

log = logging.getLogger(__name__)

DATABASE = "taxiway"
START_SECONDS = 60.0  # recovery after a crash is part of it
INITDB_SECONDS = 120.0
CONNECT_SECONDS = 10.0
# Fast shutdown writes a checkpoint; immediate shutdown gives its own children 5 s.
STOP_LADDER = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 10.0))
LOG_BYTES = 1_000_000  # a longer log is emptied at the next start
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "io_method": "sync",  # no worker processes for I/O on a laptop
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
INITDB_OPTIONS = (
    "--username=postgres",
    "--auth=trust",  # the socket's folder is open to its owner alone
    "--no-instructions",
    *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)


class Server:
    """The server of one data folder. Blocking; from a coroutine: `await asyncio.to_thread(server.start)`.

    `durable=False` gives up the data of a power cut for speed: for tests. `home` and `binaries` are found
    when not given. Raises NotConfigured without the wheel, BadSettings when the folder is in use or holds
    another version's data, DatabaseUnavailable when PostgreSQL does not start or does not stop.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        home: Home | None = None,
        binaries: Binaries | None = None,
    ) -> None:
        self.binaries = binaries or find_binaries()
        self.home = home or find_home(folder)
        self.durable = durable
        self.log_path = self.home.folder / "postgres.log"
        self._lock: BufferedWriter | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def url(self, database: str = DATABASE) -> str:
        """Where asyncpg and libpq find a database: `postgresql://postgres@/taxiway?host=/directory`."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.home.sockets))}"

    def start(self, *, fresh: bool = False) -> None:
        """Return when the server answers and has its database; `fresh` deletes all earlier data first."""
        self._take_lock()
        try:
            self._end_leftover()
            self._tidy(fresh=fresh)
            if not self.home.data.exists():
                self._initialise()
            self._check_version()
            self._launch()
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(_create_database(self.url("postgres")))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut down and let go of the folder. Safe to call twice, and when nothing runs."""
        process = self._process
        if process and not end(process.pid, lambda: process.poll() is None, STOP_LADDER):
            raise DatabaseUnavailable(f"PostgreSQL (process {process.pid}) does not end")
        self._process = None
        if self._watcher:
            self._watcher.kill()  # before its pipe ends: by now the number may be another process's
            self._watcher.communicate()
            self._watcher = None
        if self._lock:
            shutil.rmtree(self.home.sockets, ignore_errors=True)
            self._lock.close()
            self._lock = None

    def remove(self) -> None:
        """Stop, and delete the data: for a server that no other process uses."""
        self.stop()
        link = self.home.link
        shutil.rmtree(self.home.ctx if link else self.home.data, ignore_errors=True)
        if link and link.is_symlink():
            link.unlink()

    def set_aside(self) -> Path:
        """Stop, and keep the data under another name, which is returned: the next start begins with none."""
        self.stop()
        data = self.home.data
        names = (f"{data.name}-older{number or ''}" for number in range(1_000))
        aside = next(data.with_name(name) for name in names if not data.with_name(name).exists())
        return data.rename(aside)

    def _take_lock(self) -> None:
        folder = self.home.folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (folder / "postgres.lock").open("ab")
        except OSError as exc:
            raise BadSettings([f"{folder} cannot be written: choose another folder with --data"]) from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            complaint = f"another taxiway is using {folder}: stop it, or choose another folder with --data"
            raise BadSettings([complaint]) from None
        self._lock = lock

    def _end_leftover(self) -> None:
        """End the server of a parent that was killed; forget a number that is another process's by now."""
        pid_file = self.home.data / "postmaster.pid"
        pid = read_pid(pid_file)
        if pid and self._is_ours(pid):
            log.warning("the PostgreSQL of an earlier run is still there (process %d): ending it", pid)
            if not end(pid, lambda: self._is_ours(pid), STOP_LADDER):
                raise DatabaseUnavailable(f"PostgreSQL (process {pid}), left by an earlier run, does not end")
        elif pid is None or command_of(pid):  # a dead process's file is PostgreSQL's own to judge
            pid_file.unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        return f" -D {self.home.data} " in command_of(pid)

    def _tidy(self, *, fresh: bool) -> None:
        """Remove what earlier runs left half-done, and data that the folder no longer points to."""
        data, link = self.home.data, self.home.link
        if link and link.is_dir() and not link.is_symlink():
            raise BadSettings([f"{link} is another user's: run as that user, or choose --data"])
        disowned = link and not (link.is_symlink() and link.readlink() == data)
        if fresh or disowned:
            shutil.rmtree(data, ignore_errors=True)
        if link:
            private(self.home.ctx, mode=0o755)
            link.unlink(missing_ok=True)
            link.symlink_to(data)
        for part in self.home.ctx.glob("initdb-*"):
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(self.home.sockets, ignore_errors=True)
        private(self.home.sockets)
        self._give_away(self.home.sockets)

    def _initialise(self) -> None:
        """Make the data directory under another name first: half of one is never taken for a whole."""
        part = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.home.ctx))
        self._give_away(part)
        command = [self._program("initdb"), "-D", str(part), *INITDB_OPTIONS]
        command += [] if self.durable else ["--no-sync"]
        try:
            subprocess.run(  # noqa: S603  # our own program and paths
                command, check=True, capture_output=True, timeout=INITDB_SECONDS, **self._child()
            )
        except (OSError, subprocess.SubprocessError) as exc:
            said = getattr(exc, "stderr", None) or b""
            raise DatabaseUnavailable(f"initdb failed: {exc} {said.decode(errors='replace')[-2000:]}") from exc
        part.rename(self.home.data)

    def _check_version(self) -> None:
        found = (self.home.data / "PG_VERSION").read_text(encoding="ascii").strip()
        if found != str(self.binaries.major):
            where = f"the data in {self.home.folder} is of PostgreSQL {found}, and this is {self.binaries.major}"
            raise BadSettings([f"{where}: start over with --fresh, or choose another folder with --data"])

    def _launch(self) -> None:
        settings = SETTINGS | ({} if self.durable else NOT_DURABLE)
        settings["unix_socket_directories"] = f'"{self.home.sockets}"'
        command = [self._program("postgres"), "-D", str(self.home.data)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        long = self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES
        with self.log_path.open("wb" if long else "ab") as output:
            begin = output.tell()
            process = subprocess.Popen(command, stdout=output, stderr=output, **self._child())  # noqa: S603  # our own program
        self._process = process
        self._watcher = watch(process.pid, self._child())
        pid_file = self.home.data / "postmaster.pid"
        until(lambda: process.poll() is not None or is_ready(pid_file, process.pid), START_SECONDS)
        if process.poll() is not None or not is_ready(pid_file, process.pid):
            said = self.log_path.read_bytes()[begin:].decode(errors="replace")
            raise DatabaseUnavailable(f"PostgreSQL did not start; {self.log_path} says: {said[-2000:]}")

    def _program(self, name: str) -> str:
        if self.home.account:
            self.binaries = runnable(self.binaries, self.home.ctx.parent)
        return self.binaries.program(name)

    def _give_away(self, path: Path) -> None:
        if self.home.account:
            os.chown(path, self.home.account.uid, self.home.account.gid)

    def _child(self) -> dict[str, Any]:
        """How a child starts: in its own session, without our secrets, in a folder open to every account."""
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "cwd": "/", "start_new_session": True}
        account = self.home.account
        who = {"user": account.uid, "group": account.gid, "extra_groups": ()} if account else {}
        return how | who | {"env": kept | {"LC_ALL": "C"}}


async def _create_database(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, command_timeout=CONNECT_SECONDS)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close(timeout=CONNECT_SECONDS)
