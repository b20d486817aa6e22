"""What one process remembers of its own work, so that it notices when the database does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

# What goes back in time loses the newest first: these few say as much as all of them.
MOST_SUBMISSIONS = 100


class Made(NamedTuple):
    """A submission that was permitted to this process; with its claim, for after a restore an id is given out again."""

    video_id: UUID
    id: int
    claim_id: int | None


class Memory:
    """The newest submissions and the newest tick (its id and ref) that this process knows to be committed.

    `accepted`: how often an operator had accepted the database as it is by then; None: not read yet.
    """

    def __init__(self) -> None:
        self.submissions: deque[Made] = deque(maxlen=MOST_SUBMISSIONS)
        self.tick: tuple[int, str | None] | None = None
        self.accepted: int | None = None

    def remember(self, made: Iterable[Made]) -> None:
        """Call it only when the commit was confirmed."""
        self.submissions.extend(made)

    def forget(self) -> None:
        """What is missing is known to be: begin again."""
        self.submissions.clear()
        self.tick = self.accepted = None
