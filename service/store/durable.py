"""What must not be lost once it was confirmed: the claim, an accepted request, a saved id, a consent.

A role, a database or a URL may say `synchronous_commit = off`: then a power cut takes back the last commits, the claim
among them, and what was sent is sent again. These statements ask for their own transaction, in what they return: a
part of a statement that nothing reads is never run, and SET would stay behind on a pooler's connection.
"""

from __future__ import annotations

# `remote_apply` waits for more than `on` does, and stays.
ASK = (
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)"
)


def durably(column: str) -> str:
    """The column, as an expression that also makes its transaction durable: a subquery, so it asks once a statement."""
    return f"CASE WHEN (SELECT {ASK}) <> '' THEN {column} END"
