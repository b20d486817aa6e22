"""Who acts: the names that stand in events as `actor`."""

from __future__ import annotations

import getpass

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
