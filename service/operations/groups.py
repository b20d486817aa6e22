"""Groups: several videos of one request, all of them or none. One Idempotency-Key stands for the group."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from uuid import UUID

from service.context import Context
from service.errors import InvalidRequest, OverLimit, Problem
from service.operations import limits
from service.operations.enqueuing import IdempotencyKey, VideoSpec, build, price, report_to
from service.runway.catalogue.lenient import FieldWarning
from service.store import group_rows, video_rows
from service.store.video_rows import NewVideo
from service.videos import Video, new_id

LARGEST_GROUP = 10


@dataclass(frozen=True)
class Group:
    """The videos of one request, in their order. `size`: how many it asked for."""

    id: UUID
    size: int
    videos: list[Video]


async def enqueue(ctx: Context, spec: VideoSpec, key: IdempotencyKey | None = None) -> tuple[Group, bool]:
    """Queue `spec.count` videos; (the group, whether it is new: a request that is repeated returns the first one's).

    A repeat with another `webhook_url` is reported there. Raises InvalidRequest, OverLimit and NotConfigured, as
    `enqueuing.enqueue` does.
    """
    if spec.row is not None:
        raise InvalidRequest([Problem("/count", "must be 1 for a row, which shows one video")])
    new = _build(ctx, spec, key)
    try:
        await limits.check_queue(ctx, spec.count)
        await limits.check_credits(ctx, sum(one.quoted_credits for one in new))
    except OverLimit:
        known = await video_rows.known(ctx.database, new[0])
        if known is None:
            raise
        videos, is_new = await group_rows.of(ctx.database, known.group_id), False  # a repeat adds nothing
    else:
        videos, is_new = await group_rows.enqueue(ctx.database, new)
    if not is_new:
        await report_to(ctx, videos[0].id, new[0].webhook_url)
    group_id = videos[0].group_id
    assert group_id is not None  # noqa: S101  # a key of one video alone was used with another body
    return Group(group_id, spec.count, videos), is_new


def _build(ctx: Context, spec: VideoSpec, key: IdempotencyKey | None) -> list[NewVideo]:
    """The videos, checked and priced, with ids in their order. Raises InvalidRequest."""
    first = build(ctx, spec, key)
    ids = sorted(new_id(ctx.now(), secrets.randbits(74)) for _ in range(spec.count))
    first = replace(first, id=ids[0], group_id=new_id(ctx.now(), secrets.randbits(74)), group_size=spec.count)
    others = [replace(first, id=one, idempotency_key=None, request_hash=None) for one in ids[1:]]
    if "seed" not in first.input:
        return [first, *others]
    seed = first.input["seed"]
    price(ctx, replace(spec, input=spec.input | {"seed": seed + spec.count - 1}))  # the last seed must be one, too
    return [first, *[_with_seed(one, seed, n) for n, one in enumerate(others, 1)]]


def _with_seed(new: NewVideo, seed: int, n: int) -> NewVideo:
    """The same with a seed of its own: with that of the first it would be the same film."""
    words = f"each video of a group has a seed of its own: this one has that of the first plus {n}"
    warning = asdict(FieldWarning("other", "seed", words))
    return replace(new, input=new.input | {"seed": seed + n}, warnings=[*new.warnings, warning])
