"""The `taxiway dev` that runs beside a command: without DATABASE_URL, a command works on its database.

It says where everything is in a file of its data folder, for its owner alone, and holds that file's lock while it runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path

from service.settings import Settings

FOLDER = Path(".taxiway")
FILE_NAME = "running.json"
LOG_NAME = "taxiway.log"
# The data folder that this command line means: `--data`, or `.taxiway` here.
chosen: ContextVar[Path] = ContextVar("chosen", default=FOLDER)
TRIES, TRY_SECONDS = 20, 0.01
# What belongs together is taken together: its tasks are at its own Runway.
TAKEN = ("database_url", "runway_key", "runway_url")
SECRETS = ("api_keys", "cron_secret", "callback_secrets", "admin_tokens", "webhook_secrets", "webhook_private_hosts")


@dataclass(frozen=True)
class Stack:
    """What a `taxiway dev` uses: its address, and its settings by name, secrets as lists."""

    url: str
    settings: dict[str, str | list[str]]

    @classmethod
    def of(cls, url: str, settings: Settings) -> Stack:
        """What these settings are, for other processes."""
        taken = {name: getattr(settings, name) for name in TAKEN}
        return cls(url, taken | {name: list(getattr(settings, name)) for name in SECRETS})

    @property
    def login(self) -> str:
        """The link that logs in to its page."""
        return login(self.url, self.settings["admin_tokens"][0])

    def applied(self, settings: Settings) -> Settings:
        """These settings with the stack's: its database and its Runway, and the secrets that are not set."""
        wanted = {name: self.settings[name] for name in TAKEN}
        secrets = {name: tuple(self.settings[name]) for name in SECRETS if not getattr(settings, name)}
        return settings.model_copy(update=wanted | secrets)


def login(url: str, token: str) -> str:
    """A link that logs in to the page at this address; a server never sees what is behind `#`."""
    from urllib.parse import quote

    return f"{url}/login#token={quote(token, safe='')}"


@contextmanager
def published(where: Path, stack: Stack) -> Iterator[None]:
    """Inside, other commands find this stack; not if another one holds the folder already."""
    path = where / FILE_NAME
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        if not _is_ours(file.fileno()):
            yield
            return
        os.fchmod(file.fileno(), 0o600)
        file.truncate(0)
        json.dump(asdict(stack), file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_ours(descriptor: int) -> bool:
    """Whether we hold the lock now. Others that only ask whether it is held, hold it themselves for a moment."""
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TRY_SECONDS)
        else:
            return True
    return False


def find(where: Path | None = None) -> Stack | None:
    """The stack that runs in this folder, if one does and it is ours."""
    path = (where or chosen.get()) / FILE_NAME
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid() or not _is_held(file.fileno()):
                return None
            return Stack(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None  # none, or one that is just starting or ending


def _is_held(descriptor: int) -> bool:
    """Whether another process holds the lock: the one that wrote the file, for as long as it lives."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
