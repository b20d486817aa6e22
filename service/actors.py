"""Who acts: the names that stand in events as `actor`, and what a key or token may do."""

from __future__ import annotations

import getpass
import re

# Actors that are no key, token or user: the steps, and what else acts by itself.
STEPS = ("intake", "rescue", "cancel", "submit", "poll", "mirror", "prune", "gate", "recall", "link")
CRON, CALLBACK, LINKED_TABLE = "cron", "callback", "linked table"
TAXIWAY = "taxiway"  # where a caller names no other
# What no key or token may be called.
RESERVED = frozenset({*STEPS, CRON, CALLBACK, TAXIWAY, "worker", "all"})
LONGEST = 60  # characters


def cli_user() -> str:
    """The user of the command line, as the operating system knows them: `CLI user anna`."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        name = "unknown"
    return f"CLI user {name}"[:LONGEST]


OWN, READ, CREATE = "own", "read", "create"
SCOPES = (READ, CREATE, OWN)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_SCOPED = re.compile(r"(?P<name>[^:+]*)(?P<scopes>(\+[^:+]*)*)")


class Key(str):
    """A secret, with the name of the one who bears it and the scopes that limit it: `shop+read+own:SECRET`.

    `is_named`: whether the entry has a name; one without gets the name of its setting and its place in it.
    """

    name: str
    scopes: frozenset[str]
    is_named: bool

    @classmethod
    def of(cls, entry: str, default: str) -> Key:
        """Read one entry. What stands before its first colon is the name: a secret that has a colon needs one.

        Raises ValueError, which does not repeat the secret.
        """
        if isinstance(entry, cls):
            return entry
        before, colon, secret = entry.partition(":")
        key = cls(secret if colon else entry)
        key.name, key.scopes, key.is_named = default, frozenset(), False
        if not colon:
            return key
        found = _SCOPED.fullmatch(before)
        if found is None or not _NAME.fullmatch(found["name"]) or found["name"].lower() in RESERVED:
            raise ValueError(
                "has an entry whose name, before the first colon, is reserved or not made of up to 40 letters, digits, "
                "`_`, `.` and `-`: write `NAME:SECRET`, also for a secret that has a colon in it"
            )
        key.name, key.is_named = found["name"], True
        key.scopes = frozenset(found["scopes"].split("+")[1:])
        if unknown := sorted(key.scopes - set(SCOPES)):
            raise ValueError(f"has an entry with the scope {unknown[0][:20]!r}; there are: {', '.join(SCOPES)}")
        return key

    @property
    def may_read(self) -> bool:
        """Whether it may read videos."""
        return not self.scopes & {READ, CREATE} or READ in self.scopes

    @property
    def may_create(self) -> bool:
        """Whether it may enqueue videos, and ask what one would cost."""
        return not self.scopes & {READ, CREATE} or CREATE in self.scopes

    @property
    def may_change(self) -> bool:
        """Whether it may retry and cancel videos."""
        return not self.scopes & {READ, CREATE}

    @property
    def owner(self) -> str | None:
        """Its name, if it sees and changes only what it made."""
        return self.name if OWN in self.scopes else None
