"""Settling accounts: what the database says of every video, against the simulator's ledger, which is the judge."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from tests.database import Connection

# To another create although an earlier one may cost. What an app queues again has ended, and is counted as such.
CONSENTS = ("policy", "operator")
ENDED = ("completed", "failed", "cancelled")
# Two transactions that follow each other may carry the times of their beginnings the other way round.
CLOCK_GRAIN = timedelta(milliseconds=100)

Entry = Mapping[str, Any]  # one create, as `GET /_simulator/ledger` shows it


@dataclass
class Accounts:
    """What was found. Every list names what must not be; the counters are for the report."""

    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    paid_twice: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    loose_ends: list[str] = field(default_factory=list)
    wrong_money: list[str] = field(default_factory=list)
    films: list[str] = field(default_factory=list)  # rows of a linked table (tests/crash/linked_app.py)
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    creates: int = 0
    tasks: int = 0
    consents: int = 0
    deleted: int = 0
    booked: Decimal = Decimal(0)  # credits in the ledger, as costs
    billed: Decimal = Decimal(0)  # credits in the simulator's book for the same tasks
    at_risk: Decimal = Decimal(0)  # the most that submissions of unknown outcome may have cost
    unseen: Decimal = Decimal(0)  # what tasks that nobody knows the id of did cost

    @property
    def complaints(self) -> list[str]:
        """Everything that must not be."""
        return [
            *self.lost,
            *self.stuck,
            *self.paid_twice,
            *self.unexplained,
            *self.loose_ends,
            *self.wrong_money,
            *self.films,
        ]


async def settle(
    connection: Connection,
    entries: Sequence[Entry],
    prompts: Mapping[UUID, str],
    *,
    removed: frozenset[UUID] = frozenset(),
) -> Accounts:
    """Judge every video of `prompts`, whose text tells its creates apart. `removed`: rows that the app deleted."""
    found = Accounts()
    videos = {row["id"]: row for row in await connection.fetch("SELECT * FROM taxiway.videos")}
    submissions: dict[UUID, list[Any]] = defaultdict(list)
    for row in await connection.fetch("SELECT * FROM taxiway.submissions ORDER BY id"):
        submissions[row["video_id"]].append(row)
    creates: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        creates[str(entry["prompt"])].append(entry)
    for video_id, prompt in prompts.items():
        _check_video(found, prompt, videos.get(video_id), removed=video_id in removed)
        _check_creates(found, prompt, creates.pop(prompt, []), submissions.get(video_id, []))
        _check_ledger(found, prompt, submissions.get(video_id, []))
    found.unexplained += [f"{prompt}: a create for a video that nobody asked for" for prompt in creates]
    return found


def _check_video(found: Accounts, prompt: str, video: Any, *, removed: bool) -> None:
    if video is None:
        if not removed:
            found.lost.append(f"{prompt}: there is no row")
        return
    found.statuses[video["status"]] += 1
    if video["error_code"]:
        found.errors[video["error_code"]] += 1
    if video["status"] not in ENDED:
        found.stuck.append(f"{prompt}: {video['status']}, task {video['runway_video_id']}, {video['error_message']}")
    if video["status"] == "failed" and not (video["error_code"] and video["error_message"]):
        found.lost.append(f"{prompt}: failed without a reason")
    if video["status"] == "completed" and not video["video_url"]:
        found.lost.append(f"{prompt}: completed without its file")


def _check_creates(found: Accounts, prompt: str, creates: list[Entry], ledger: list[Any]) -> None:
    """Every create that arrived has an open submission, and every task is booked, or is an unknown's."""
    tasks = [entry for entry in creates if entry["task_id"]]
    booked = {row["task_id"]: row for row in ledger if row["task_id"]}
    unbooked = [entry for entry in tasks if entry["task_id"] not in booked]
    unknown = [row for row in ledger if row["outcome"] == "unknown"]
    found.creates += len(creates)
    found.tasks += len(tasks)
    found.deleted += sum(entry["deleted"] for entry in tasks)
    if len(creates) > sum(row["outcome"] != "not_sent" for row in ledger):
        found.paid_twice.append(f"{prompt}: {len(creates)} creates for {len(ledger)} submissions")
    if len(unbooked) > len(unknown):
        found.unexplained.append(f"{prompt}: {len(unbooked)} tasks not booked, {len(unknown)} unknown outcomes")
    consents = sum(row["consent"] in CONSENTS for row in ledger)
    ended = sum(row["settled_at"] is not None and row["task_id"] is not None for row in ledger[:-1])
    if len(tasks) > 1 + consents + ended:
        found.paid_twice.append(f"{prompt}: {len(tasks)} tasks, {consents} consents, {ended} ended before")
    found.unseen += sum((_cost(entry) for entry in unbooked), Decimal(0))
    for entry in tasks:
        row = booked.get(entry["task_id"])
        if row is not None:
            _check_money(found, prompt, entry, row)


def _check_money(found: Accounts, prompt: str, entry: Entry, row: Any) -> None:
    """A task that is gone cannot be asked for its cost: its estimate is the bound. All others are booked exactly."""
    vanished = "vanish" in entry["fault"] and row["cost_credits"] is None  # perhaps only its DELETE found that out
    if entry["deleted"] or vanished or row["task_status"] == "GONE" or row["task_status"] == "DELETED":
        if _cost(entry) > (row["estimated_credits"] or row["quoted_credits"]):
            found.wrong_money.append(f"{prompt}: {_cost(entry)} billed, above the estimate in the ledger")
        return
    found.billed += _cost(entry)
    found.booked += row["cost_credits"] or 0
    if row["cost_credits"] != _cost(entry):
        found.wrong_money.append(f"{prompt}: {_cost(entry)} billed, {row['cost_credits']} booked")


def _cost(entry: Entry) -> Decimal:
    return Decimal(entry["charged"]) - Decimal(entry["refunded"])


def _check_ledger(found: Accounts, prompt: str, ledger: list[Any]) -> None:
    """Nothing is left open, and no submission was opened while an earlier one might still cost, without consent."""
    for row in ledger:
        found.outcomes[str(row["outcome"])] += 1
        found.consents += row["consent"] in CONSENTS
        if row["outcome"] == "unknown":
            found.at_risk += row["quoted_credits"] or 0
        if row["outcome"] is None or row["unsaved"] or row["cancel_due"]:
            found.loose_ends.append(f"{prompt}: submission {row['id']} is left open")
        if row["outcome"] == "accepted" and row["settled_at"] is None:
            found.loose_ends.append(f"{prompt}: nobody looks after task {row['task_id']}")
    for earlier, later in combinations(ledger, 2):
        settled = earlier["settled_at"] and earlier["settled_at"] <= later["opened_at"] + CLOCK_GRAIN
        if not settled and earlier["consent"] is None:
            found.paid_twice.append(f"{prompt}: submission {later['id']} while {earlier['id']} might cost")


_NEXT_EVENT = """
SELECT extract(epoch FROM min(at) - taxiway.now())::float8 FROM (
    SELECT GREATEST(v.run_after, (
        SELECT max(l.paused_until) FROM taxiway.models l WHERE l.model IN ('all', v.model))) AS at
    FROM taxiway.videos v WHERE v.status = 'queued'
    UNION ALL SELECT poll_after FROM taxiway.videos WHERE status = 'processing' AND runway_video_id IS NOT NULL
    UNION ALL SELECT deadline FROM taxiway.submissions WHERE outcome IS NULL
    UNION ALL SELECT cancel_due FROM taxiway.submissions WHERE cancel_due IS NOT NULL
) AS events
"""


async def seconds_to_next_event(connection: Connection) -> float | None:
    """When a tick has something to do again; None if nothing is under way."""
    seconds: float | None = await connection.fetchval(_NEXT_EVENT)
    return None if seconds is None else max(seconds, 0.0)
