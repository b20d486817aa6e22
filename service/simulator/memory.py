"""What the simulator remembers across restarts: one JSON file, written before an answer is given.

A process that is killed forgets nothing that a client has an answer for; a power cut may cost the last writes, since
they are not flushed to the disk. Time goes on while the simulator is switched off, as it does at Runway.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
from pydantic import TypeAdapter

from service.simulator.faults import Planned
from service.simulator.ledger import Entry
from service.simulator.tasks import Life, Task
from service.simulator.uploads import Upload

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """All that a restart must not lose. The models are left out: they follow from the tasks.

    `signing_key` in hexadecimal; `changes`: the options that were set on the run; `made`: by model, the Unix
    times of creates that count for the daily limit; `entries`: the books, with a task's id for the entry that
    the task carries; `tasks`: oldest first.
    """

    version: Literal[1]
    signing_key: str
    changes: dict[str, Any]
    credits: int
    life: Life
    made: dict[str, list[float]]
    faults: list[Planned]
    entries: list[Entry | str]
    tasks: list[Task]
    uploads: list[Upload] = field(default_factory=list)


STATE = TypeAdapter(State)


class Memory:
    """The file of one simulator. `save` takes its state, `load` gives it one back."""

    def __init__(self, path: Path, save: Callable[[], State], load: Callable[[State], None]) -> None:
        self._path, self._save, self._load = path, save, load
        self._part = path.with_name(f"{path.name}.part")
        self._lock = anyio.Lock()
        self._asked = self._kept = 0
        self._complained = False

    def recall(self) -> None:
        """Load the file, if there is one. A file that cannot be read is put aside, and the simulator starts empty."""
        try:
            self._load(STATE.validate_json(self._path.read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as exc:
            aside = self._path.with_name(f"{self._path.name}.unreadable")
            with suppress(OSError):
                self._path.replace(aside)
            log.warning(
                "the simulator cannot read %s (%s): it starts empty, and the file is now %s",
                self._path, type(exc).__name__, aside.name,
            )  # fmt: skip

    async def keep(self) -> None:
        """Return when all that has happened so far is in the file. Callers that wait together share one write."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._kept < mine:
                covered = self._asked
                content = STATE.dump_json(self._save())  # here, where no request can change the state meanwhile
                await anyio.to_thread.run_sync(self._write, content)
                self._kept = covered

    def _write(self, content: bytes) -> None:
        """Under another name first: half a file is never read. A full disk is no reason to stop serving."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self._part, "wb", opener=_private) as file:
                file.write(content)
            self._part.replace(self._path)
        except OSError as exc:
            if not self._complained:
                log.warning("the simulator cannot write %s (%s): a restart will forget its tasks", self._path, exc)
            self._complained = True


async def keep_nothing() -> None:
    """For a simulator without a memory."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)  # the key that signs output URLs is in it
