"""Where the embedded server lives, for root and for everybody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from service.errors import BadSettings, NotConfigured
from service.local.postgres_home import (
    account_for,
    copied,
    find_binaries,
    find_home,
    is_ready,
    private,
    reachable,
    runnable,
    shared_directory,
)

PATIENCE_SECONDS = 120

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what only root meets")


def test_without_the_wheel_it_says_what_to_install() -> None:
    for package in ("no_such_package_at_all", "json"):
        with pytest.raises(NotConfigured, match=r"\[local\].*DATABASE_URL"):
            find_binaries(package)


def test_an_ordinary_users_home_is_the_data_folder(tmp_path: Path) -> None:
    home = find_home(tmp_path, uid=1234, temporary=Path("/short"))
    assert (home.data, home.account, home.link) == (tmp_path / "postgres", None, None)
    assert home.sockets.parent == Path("/short")
    assert home.sockets != find_home(tmp_path / "other", uid=1234, temporary=Path("/short")).sockets
    assert home.sockets != find_home(tmp_path, uid=1235, temporary=Path("/short")).sockets


@pytest.mark.parametrize(("length", "kept"), [(59, True), (60, False)])
def test_a_socket_path_is_never_too_long(tmp_path: Path, length: int, kept: bool) -> None:
    temporary = Path("/" + "t" * (length - 1))
    path = find_home(tmp_path, uid=1234, temporary=temporary).sockets / ".s.PGSQL.5432"
    assert (temporary in path.parents) is kept
    assert len(str(path)) <= 103


def test_roots_home_is_apart_and_the_folder_points_to_it(tmp_path: Path) -> None:
    home = find_home(tmp_path / "data", uid=0, shared_roots=(tmp_path / "missing", tmp_path))
    assert home.ctx.parent == tmp_path / "taxiway"
    assert home.ctx.parent.stat().st_mode & 0o777 == 0o755
    assert home.link == tmp_path / "data" / "postgres"
    assert home.account
    assert home.account.uid != 0


def test_without_any_place_or_account_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="missing"):
        shared_directory((tmp_path / "missing",))
    with pytest.raises(BadSettings, match="no-such-account"):
        account_for(tmp_path / "missing", ("no-such-account",))


def test_existing_data_keeps_its_account(tmp_path: Path) -> None:
    assert account_for(tmp_path, ()).uid == os.geteuid()


def test_a_directory_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    private(tmp_path / "ours")
    private(tmp_path / "ours")
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("link", "open"):
        with pytest.raises(BadSettings, match=name):
            private(tmp_path / name)


@only_root
def test_a_directory_of_another_account_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)
    with pytest.raises(BadSettings, match="theirs"):
        private(path)


def test_binaries_are_copied_once_and_only_when_others_cannot_reach_them(tmp_path: Path) -> None:
    binaries, closed = find_binaries(), tmp_path / "closed"
    copy = copied(binaries, tmp_path)
    before = copy.root.stat().st_ino
    assert copied(binaries, tmp_path).root.stat().st_ino == before
    assert not list(tmp_path.glob("copy-*"))
    version = subprocess.run(
        [copy.program("initdb"), "--version"], capture_output=True, check=True, timeout=PATIENCE_SECONDS
    )
    assert str(binaries.major).encode() in version.stdout

    tmp_path.chmod(0o700)
    assert not reachable(copy)
    assert runnable(copy, closed.parent).root != copy.root
    everywhere = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        everywhere.chmod(0o755)
        assert runnable(copied(binaries, everywhere), closed).root.is_relative_to(everywhere)
    finally:
        shutil.rmtree(everywhere)


def test_ready_is_what_this_process_says_and_no_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "postmaster.pid"
    assert not is_ready(file, 7)
    file.write_text("7\n/data\nstarting\n")
    assert not is_ready(file, 7)
    file.write_text("7\n/data\nready   \n")
    assert is_ready(file, 7)
    assert not is_ready(file, 8)
