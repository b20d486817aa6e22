"""The place of the tests' PostgreSQL: what was left there goes, what is in use stays."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tests import memory_disk


def test_no_memory_and_little_room_have_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_disk, "ROOM_BYTES", 1)
    assert memory_disk.has_room(tmp_path)
    assert not memory_disk.has_room(tmp_path / "none")
    monkeypatch.setattr(memory_disk, "ROOM_BYTES", 2**62)
    assert not memory_disk.has_room(tmp_path)


def test_what_a_killed_run_has_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left, used, beginning, other = (
        tmp_path / name
        for name in (f"{memory_disk.PREFIX}left", f"{memory_disk.PREFIX}used", f"{memory_disk.PREFIX}new", "other")
    )
    for folder in (left, used, beginning, other):
        folder.mkdir()
    for folder in (left, used, other):
        (folder / "postgres.lock").touch()
    memory_disk.sweep(tmp_path)
    assert left.exists(), "a server that starts now may not have locked it yet"
    monkeypatch.setattr(memory_disk, "YOUNG_SECONDS", -1.0)
    with (used / "postgres.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        memory_disk.sweep(tmp_path)
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == {used, beginning, other}
