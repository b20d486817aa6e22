"""The claim: the statement whose commit is the permission to POST."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from service.settings import LEASE_MARGIN_SECONDS
from service.store import batches
from service.store.batches import ONLY, Choosing
from service.store.database import Database, Queries
from service.store.deliveries import UNDER_WAY
from service.store.durable import durably
from service.store.outcome_row import FIRST_POLL_SECONDS
from service.store.predicates import READY
from service.store.spending import BUSY

# What forbids another create for the video `v`. Consent was given while the outcome was unknown: once that turns
# out to be a task, the video has its task, and needs no other. OFFSET 0: looked up video by video, by the index on
# video_id; as a join, the whole ledger would be read for each claim.
BLOCKED = """EXISTS (
    SELECT FROM taxiway.submissions s WHERE s.video_id = v.id AND s.settled_at IS NULL
      AND (s.consent IS NULL OR s.outcome = 'accepted' AND s.cancel_due IS NULL) OFFSET 0)"""

# What is due of the model `{model}`; run_after may lie in the future.
_READY = f"""{READY} AND v.model = {{model}}
          AND v.run_after <= taxiway.now() AND (v.expires_at IS NULL OR v.expires_at > taxiway.now())"""
IN_ORDER = "v.claim_order, v.run_after, v.id"  # as in the index videos_ready
_FROM_START = f" AND ({IN_ORDER}) >= (model.start_order, model.start_at, model.start_id)"
_BEHIND = """
              AND ({in_order}) >= (COALESCE((${behind}::jsonb -> l.model ->> 0)::timestamp, '-infinity'),
                                   COALESCE((${behind}::jsonb -> l.model ->> 1)::timestamptz, '-infinity'),
                                   COALESCE((${behind}::jsonb -> l.model ->> 2)::uuid, '{zero}'))"""

# Claim: take due videos, permit one submission for each, and say so in the video, in one statement whose commit is the
# permission to POST. MATERIALIZED keeps LIMIT and SKIP LOCKED honest; LATERAL passes over a paused model without
# reading its rows. `room` locks the row of each model that has something due, and says how many more creates may be in
# flight. The first that is due is the start: what was claimed since the last VACUUM stands before it in the index, and
# is walked past once instead of twice; or not at all, where a process says what it claimed last (front.py). The inner
# LIMIT is for the plan, the outer one stops it there: what is behind is not locked. How many are wanted is a parameter,
# where no plan depends on it: otherwise PostgreSQL would make a plan for each number, or at each claim, which takes
# longer than a claim does. The submission of each video is taken from an array (a wrong one would be refused by the
# foreign key): in a join or a look-up, each of fifty videos would be found by reading all fifty. What was found out
# once, not for each video, is in `by_model`, as JSON: its room, whether it is stirred, and whether an endpoint wants to
# know that Runway took a video. `place`: submissions are numbered in the order of the queue; were they not, it would be
# one before the last, and a few videos be walked past again.
_DUE = """
WITH {own}{users}model AS MATERIALIZED (
    SELECT l.model, {room} AS room,
           l.unknown_videos <> '{{}}' OR l.pauses > 0 OR l.used_at < taxiway.now() - interval '15 min'
           AS stirred,
           start.*
    FROM taxiway.models l CROSS JOIN LATERAL (
        SELECT {in_order} FROM taxiway.videos v
        WHERE {ready} AND v.model = l.model AND v.run_after <= taxiway.now(){has_slot}{behind}
        ORDER BY {in_order} LIMIT 1
    ) AS start (start_order, start_at, start_id)
    WHERE l.model <> 'all' AND {open}
), due AS MATERIALIZED (
    SELECT d.* FROM model CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT v.id, v.model, v.user_id, v.quoted_credits, v.claim_order, v.run_after FROM taxiway.videos v
            WHERE {ready_of_model} AND NOT {blocked} {only}
            ORDER BY {order} LIMIT {most} FOR UPDATE OF v SKIP LOCKED
        ) AS first LIMIT LEAST(model.room, ${limit}::integer)
    ) d ORDER BY d.claim_order, d.run_after, d.id LIMIT (SELECT ${limit}::integer)
)"""
_CLAIM = (
    _DUE
    + """, {affordable} opened AS (
    INSERT INTO taxiway.submissions (video_id, model, user_id, quoted_credits, claim_id, call_deadline, deadline)
    SELECT id, model, user_id, quoted_credits, $2,
           taxiway.now() + make_interval(secs => $1), taxiway.now() + make_interval(secs => $1 + {margin})
    FROM {source} RETURNING id, video_id
)
UPDATE taxiway.videos v SET status = 'processing', runway_video_id = NULL,
    open_submission_id = (ARRAY(SELECT id FROM opened))[array_position(ARRAY(SELECT video_id FROM opened), v.id)],
    submitted_at = taxiway.now(), poll_after = taxiway.now() + make_interval(secs => {first_poll}), polled_at = NULL,
    task_status = NULL, progress = NULL, error_code = NULL, error_message = NULL, finished_at = NULL,
    cost_credits = NULL, updated_at = taxiway.now()
WHERE v.id = ANY(ARRAY(SELECT video_id FROM opened))
RETURNING {submission_id} AS submission_id, v.id AS video_id, v.operation, v.model, v.input AS body, v.retries,
    v.resubmissions, v.quoted_credits, v.link_id,
    CASE WHEN v.open_submission_id = (SELECT max(id) FROM opened)
         THEN json_build_array({in_order})::text END AS place,
    (SELECT json_object_agg(m.model, json_build_array(
        m.room, m.stirred, EXISTS (SELECT FROM taxiway.wanting('{under_way}')))) FROM model m)::text AS by_model
"""
)
_OPEN_MODELS = (
    "l.reason IS NULL AND NOT EXISTS (SELECT FROM taxiway.models a WHERE a.model = 'all' AND a.reason IS NOT NULL)"
)
# For a probe: one paused model; 'all': any that is not paused itself, although all are. A database that was restored is
# never probed.
_PROBED_MODEL = """CASE WHEN ${model} = 'all' THEN l.reason IS NULL OR l.paused_until <= taxiway.now()
         ELSE l.model = ${model} END
    AND NOT EXISTS (SELECT FROM taxiway.models a WHERE a.model = 'all' AND a.reason = 'restored')"""
# A probe takes another video than the one that paused the model, and rather one that no gateway has refused; one whose
# consent to a second create would be used up only if there is nothing else. It is rare, and may sort what is due.
_PROBING_ORDER = f"""v.id IS NOT DISTINCT FROM (SELECT m.last_video FROM taxiway.models m WHERE m.model = ${{model}}),
            v.refused_at NULLS FIRST, v.resubmissions > 0, {IN_ORDER}"""

# For one video, whose caller waits for it: that one, if fewer that are due stand before it in its model than slots are
# free; otherwise the first of them, so that a video whose caller is gone holds up no other. With a limit on the day's
# credits, what stands before it may need what is left of them: then it must be the first itself.
_OWN = "own AS MATERIALIZED (SELECT v.* FROM taxiway.videos v WHERE v.id = ${video} AND {ready}), "
_OWN_MODEL = f"{_OPEN_MODELS} AND l.model = (SELECT model FROM own)"
_IN_TURN = """AND v.id = CASE WHEN {turns} > (SELECT count(*) FROM (
                SELECT FROM taxiway.videos v WHERE {ready_of_model} AND NOT {blocked}
                  AND ({in_order}) < (SELECT claim_order, run_after, id FROM own)
                LIMIT {turns}) AS before)
            THEN (SELECT id FROM own) ELSE v.id END
            AND ({in_order}) <= (SELECT claim_order, run_after, id FROM own)"""

# With limits for each user, ${slots} in flight and ${credits} a day: `busy` has what each of them uses of both, `rooms`
# the price that a video of his may have at most, negative while he has no slot. Who is not in them uses nothing.
# The start is then the first whose user has a slot, so that thousands of one who has none cost some milliseconds.
_USERS = f"""{BUSY}, rooms AS MATERIALIZED (
    SELECT jsonb_object_agg(user_id, CASE WHEN in_flight >= ${{slots}}::integer THEN -1
                                          ELSE ${{credits}}::numeric - credits END) AS of_user FROM busy
), slotless AS MATERIALIZED (
    SELECT user_id FROM busy WHERE in_flight >= ${{slots}}::integer
), """
_HAS_SLOT = " AND (v.user_id IS NULL OR v.user_id NOT IN (SELECT user_id FROM slotless))"
_HAS_ROOM = """
            AND (v.user_id IS NULL OR COALESCE(v.quoted_credits, 0) <= COALESCE(
            ((SELECT of_user FROM rooms) ->> v.user_id)::numeric, ${credits}::numeric, v.quoted_credits, 0))"""

# With any limit: of what is due, in order, only as much as there is room for. Of the day's credits: for all models;
# and, by model, for those that have a limit of their own. Of a user: his slots, and his credits.
_AFFORDABLE = """affordable AS MATERIALIZED (
    SELECT d.* FROM (
        SELECT due.*, sum(COALESCE(quoted_credits, 0)) OVER (ORDER BY claim_order, run_after, id) AS in_all,
               sum(COALESCE(quoted_credits, 0))
                   OVER (PARTITION BY model ORDER BY claim_order, run_after, id) AS in_model{of_user}
        FROM due
    ) d LEFT JOIN jsonb_each_text(${by_model}::jsonb) AS own(model, room) ON own.model = d.model{joined}
    WHERE (${for_all}::numeric IS NULL OR d.in_all <= ${for_all})
      AND (own.room IS NULL OR d.in_model <= CAST(own.room AS numeric)){within}
),"""
_OF_USER = """,
               count(*) OVER (PARTITION BY user_id ORDER BY claim_order, run_after, id) AS nth_of_user,
               sum(COALESCE(quoted_credits, 0))
                   OVER (PARTITION BY user_id ORDER BY claim_order, run_after, id) AS in_user"""
_JOINED = """
    LEFT JOIN busy ON busy.user_id = d.user_id"""
_WITHIN = """
      AND (d.user_id IS NULL
           OR (${slots}::integer IS NULL OR d.nth_of_user + COALESCE(busy.in_flight, 0) <= ${slots})
              AND (${credits}::numeric IS NULL OR d.in_user + COALESCE(busy.credits, 0) <= ${credits}))"""


@dataclass(frozen=True)
class PerUser:
    """What each user may have: videos in flight, at Runway or on their way there, and credits a day; None: any."""

    in_flight: int | None
    credits: Decimal | None


UNLIMITED = PerUser(None, None)


@dataclass(frozen=True)
class Aim:
    """Which videos a claim chooses from. `probed`: those of this paused model; `video`: this one, or the first that
    stands before it (of one at most); `per_user`: those of users who have room, which goes with a room of credits;
    `behind`: of each model those that stand behind this place in the queue, as JSON.
    """

    probed: str | None = None
    video: UUID | None = None
    per_user: PerUser | None = None
    behind: str | None = None

    def claiming(self, limit: int, *, within: bool = False) -> Choosing:
        """The claim of at most so many of these. `within`: it has a room of credits."""
        aimed = {"probing": self.probed is not None, "turn": self.video is not None}
        most = max(LEAST_MOST, 1 << (limit - 1).bit_length())
        return claiming(most, within=within, per_user=self.per_user is not None, **aimed)

    @property
    def arguments(self) -> tuple[object, ...]:
        """What that takes."""
        aimed = (self.behind, *(one for one in (self.probed, self.video) if one is not None))
        return aimed if self.per_user is None else (*aimed, self.per_user.in_flight, self.per_user.credits)


ALL_DUE = Aim()


LEAST_MOST = 64


@cache
def claiming(
    most: int = LEAST_MOST, *, probing: bool = False, within: bool = False, turn: bool = False, per_user: bool = False
) -> Choosing:
    """The claim, planned for at most so many.

    Its parameters: the seconds of the call, the claim's id, how many are wanted, behind which places; `probing`: the
    model, or `turn`: the video; `per_user`: the slots, the credits of each; `within`: the room for all, by model. What
    only says which it would take begins with how many.
    """
    which = _PROBED_MODEL if probing else _OWN_MODEL if turn else _OPEN_MODELS
    parts = {
        "most": int(most),
        "blocked": BLOCKED,
        "in_order": IN_ORDER,
        "room": "1" if probing else "taxiway.room(l.model)",
        "ready": READY,
    }

    def aimed(limit: int) -> dict[str, str]:
        """The parts with parameters of their own, which begin behind that for how many are wanted, ${limit}."""
        place = limit + 2
        of_users = _places_of_users(place + (probing or turn))
        has_room = _HAS_ROOM.format(**of_users) if per_user else ""
        found = {
            "limit": str(limit),
            "own": _OWN.format(video=place, ready=_READY.format(model="v.model")) if turn else "",
            "users": _USERS.format(**of_users) if per_user else "",
            "open": which.format(model=place),
            "order": _PROBING_ORDER.format(model=place) if probing else IN_ORDER,
            "has_slot": _HAS_SLOT if per_user else "",
            "behind": _BEHIND.format(in_order=IN_ORDER, behind=limit + 1, zero=UUID(int=0)),
            "ready_of_model": _READY.format(model="model.model") + _FROM_START + has_room,
            "only": ONLY,
        }
        if turn:
            found["only"] = f"{_IN_TURN.format(turns='1' if within else 'model.room', **parts, **found)} {ONLY}"
        return found

    sql = _CLAIM.format(
        **parts,
        **aimed(3),
        submission_id=durably("v.open_submission_id"),
        under_way=UNDER_WAY,
        affordable=_affordable(5 + (probing or turn), per_user=per_user) if within else "",
        source="affordable" if within else "due",
        margin=LEASE_MARGIN_SECONDS,
        first_poll=FIRST_POLL_SECONDS,
    )
    return Choosing("claim", sql, _DUE.format(**parts, **aimed(1)) + " SELECT id, id FROM due", "v.id")


def _places_of_users(place: int) -> dict[str, int]:
    """Where the limits of each user stand among the parameters."""
    return {"slots": place, "credits": place + 1}


def _affordable(place: int, *, per_user: bool) -> str:
    """The limits; their parameters begin at this place, with those of each user."""
    if not per_user:
        return _AFFORDABLE.format(for_all=place, by_model=place + 1, of_user="", joined="", within="")
    within = _WITHIN.format(**_places_of_users(place))
    return _AFFORDABLE.format(for_all=place + 2, by_model=place + 3, of_user=_OF_USER, joined=_JOINED, within=within)


class OpenSubmission(NamedTuple):
    """The permission to send one create for one video. `body`: what to send, as JSON."""

    submission_id: int
    video_id: UUID
    operation: str
    model: str
    body: str
    retries: int
    resubmissions: int
    quoted_credits: Decimal | None
    link_id: int | None = None  # of the linked table that has a row for it
    place: str | None = None  # of the last in the queue alone: its place in the queue of its model, as JSON
    room: int | None = None  # how many creates of its model might be permitted; None: not asked
    stirred: bool = False  # the model's circuit remembers unknown outcomes, or has not been used for a while
    announced: bool = True  # an endpoint wants to know that Runway took it

    @property
    def input(self) -> dict[str, Any]:
        """The body, as Runway's names and values."""
        values: dict[str, Any] = json.loads(self.body)
        return values


@dataclass(frozen=True)
class Room:
    """Credits that may still be permitted today: for all models (None: no limit), and for those with a limit."""

    for_all: Decimal | None
    by_model: Mapping[str, Decimal]


async def claim(
    database: Queries,
    limit: int,
    call_seconds: float,
    aim: Aim = ALL_DUE,
    room: Room | None = None,
    claim_id: int | None = None,
    only: Sequence[str] | None = None,
) -> list[OpenSubmission]:
    """Permit at most `limit` creates, each to end within `call_seconds` from before this call.

    `only`: the ids of the videos that it may choose from.
    """
    arguments: list[object] = [call_seconds, claim_id, limit, *aim.arguments]
    if room is not None:
        arguments += [room.for_all, json.dumps(dict(room.by_model), default=str)]
    statement = aim.claiming(limit, within=room is not None)
    if only is None:
        rows = await database.fetch(statement.usual, *arguments)
    else:
        rows = await database.fetch(statement.these(len(arguments) + 1), *arguments, json.dumps(list(only)))
    by_model = json.loads(rows[0]["by_model"]) if rows else {}
    return [OpenSubmission._make((*row[:-1], *by_model[row["model"]])) for row in rows]


async def choose(database: Database, limit: int, aim: Aim, passed_over: Sequence[str]) -> list[tuple[str, UUID | None]]:
    """The videos that a claim would take, but those."""
    return await batches.choose(database, aim.claiming(limit), (limit, *aim.arguments), passed_over)


# Whether a video could be claimed now, were its model open and its turn come.
_IS_DUE = f"SELECT EXISTS (SELECT FROM taxiway.videos v WHERE v.id = $1 AND {_READY.format(model='v.model')})"


async def is_due(database: Database, video_id: UUID) -> bool:
    """Whether this video is queued with a request, and its time has come and is not over."""
    return bool(await database.fetchval(_IS_DUE, video_id))


_OF_CLAIM = "SELECT id, video_id FROM taxiway.submissions WHERE outcome IS NULL AND claim_id = $1"


async def of_claim(database: Database, claim_id: int) -> list[tuple[int, UUID]]:
    """What a claim permitted whose answer was lost: (submission, video)."""
    return [(row["id"], row["video_id"]) for row in await database.fetch(_OF_CLAIM, claim_id)]


_P95_SECONDS = """
SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - opened_at))::float8
FROM (SELECT opened_at, closed_at FROM taxiway.submissions
      WHERE outcome = 'accepted' AND settled_at IS NULL LIMIT 100) AS recent
"""


async def p95_seconds(database: Database) -> float | None:
    """The 95th percentile of how long creates took whose tasks are under way, claim to answer; None without any."""
    seconds: float | None = await database.fetchval(_P95_SECONDS)
    return seconds
