"""The secrets of a laptop: those that the environment does not name, made once and kept in the data folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe

from service.errors import BadSettings
from service.settings import Settings
from service.webhooks import new_secret

FILE_NAME = "secrets.env"  # NAME=value lines, so that a shell can read it
SECRET_BYTES = 24
MAKERS: dict[str, Callable[[], str]] = {
    "api_keys": lambda: token_urlsafe(SECRET_BYTES),
    "cron_secret": lambda: token_urlsafe(SECRET_BYTES),
    "callback_secrets": new_secret,
    "admin_tokens": lambda: token_urlsafe(SECRET_BYTES),
    "webhook_secrets": new_secret,
}


def kept_secrets(folder: Path, settings: Settings) -> dict[str, tuple[str, ...]]:
    """The values of the settings that are missing, from the folder's file, or new ones that are now in it.

    The file is open to its owner alone. Raises BadSettings if the folder cannot be used.
    """
    path = folder / FILE_NAME
    missing = [name for name in MAKERS if not getattr(settings, name)]
    try:
        stored = _read(path)
        made = {name.upper(): MAKERS[name]() for name in missing if not stored.get(name.upper())}
        if made:
            _write(path, stored | made)
    except (OSError, UnicodeDecodeError) as exc:
        raise BadSettings([f"{path} cannot be read or written ({exc}): choose another folder with --data"]) from exc
    return {name: tuple((stored | made)[name.upper()].split(",")) for name in missing}


def _read(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _write(path: Path, values: dict[str, str]) -> None:
    """Under another name first: half a file is never read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    Path(part).replace(path)
