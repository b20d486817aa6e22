"""Batches: many requests at once, each a video of its own. All of them or none; or each for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from service.context import Context
from service.errors import Gone, InvalidRequest, Problem, TaxiwayError
from service.operations import limits
from service.operations.enqueuing import IdempotencyKey, VideoSpec, build
from service.store import batch_rows
from service.store.video_rows import NewVideo
from service.videos import Status, Video

LARGEST_BATCH = 1_000

Item = VideoSpec | InvalidRequest  # what is asked for, or why that cannot be read
Result = Video | TaxiwayError  # what became of it


@dataclass(frozen=True)
class Batch:
    """What a batch came to, in the order of its requests. `is_repeat`: all that was queued of it was queued before."""

    results: list[Result]
    is_repeat: bool


async def enqueue(ctx: Context, items: Sequence[Item], key: IdempotencyKey | None, *, atomic: bool) -> Batch:
    """Queue these requests. With the same key and body again, the videos of the first time are returned.

    `atomic`: if one is not valid none is queued, and InvalidRequest names every problem; otherwise its result says so.
    Raises OverLimit if there is no room for all that is new, and InvalidRequest for a key of another body.
    """
    results = await _prepared(ctx, items, key)
    if atomic:
        _refuse_invalid(results)
    new = [one for one in results if isinstance(one, NewVideo)]
    if not new:
        done = [one for one in results if not isinstance(one, NewVideo)]
        return Batch(done, is_repeat=any(isinstance(one, Video) for one in done))
    await limits.check_queue(ctx, len(new))
    await limits.check_credits(ctx, sum((one.quoted_credits for one in new), Decimal(0)))
    stored = await batch_rows.enqueue(ctx.database, new)
    if len(stored) < len(new):  # the same batch came twice at once: the other one has stored the rest
        return await enqueue(ctx, items, key, atomic=atomic)
    return Batch([stored[one.id] if isinstance(one, NewVideo) else one for one in results], is_repeat=False)


async def _prepared(ctx: Context, items: Sequence[Item], key: IdempotencyKey | None) -> list[Result | NewVideo]:
    """The video of each request that was queued before; of each other what is to be queued, or why it cannot be."""
    keys = [None if key is None else _key_of(key, n) for n in range(len(items))]
    known = await batch_rows.known(ctx.database, [one.stored for one in keys if one is not None])
    prepared: list[Result | NewVideo] = []
    for item, own in zip(items, keys, strict=True):
        before = known.get(own.stored) if own is not None else None
        prepared.append(_built(ctx, item, own) if own is None or before is None else _same(*before, own))
    return _in_order(prepared)


def _in_order(prepared: list[Result | NewVideo]) -> list[Result | NewVideo]:
    """The same, with the ids of what is new in the order of the requests."""
    ids = iter(sorted(one.id for one in prepared if isinstance(one, NewVideo)))
    return [replace(one, id=next(ids)) if isinstance(one, NewVideo) else one for one in prepared]


def _key_of(key: IdempotencyKey, n: int) -> IdempotencyKey:
    """The key of the n-th request. Between the two stands a tab, which cannot be in what is sent."""
    return IdempotencyKey(f"{key.stored}\t{n}\tbatch", key.request_hash)


def _built(ctx: Context, item: Item, key: IdempotencyKey | None) -> NewVideo | TaxiwayError:
    if isinstance(item, InvalidRequest):
        return item
    try:
        _check_single(item)
        return build(ctx, item, key)
    except InvalidRequest as exc:
        return exc


def _check_single(spec: VideoSpec) -> None:
    """Raises InvalidRequest for what a batch does not take."""
    problems = []
    if spec.count != 1:
        problems.append(Problem("/count", "must be 1 in a batch: repeat the request instead"))
    if spec.row is not None:
        problems.append(Problem("/row", "cannot be in a batch: send it with POST /videos"))
    if problems:
        raise InvalidRequest(problems)


def _same(video: Video, request_hash: str, key: IdempotencyKey) -> Result:
    """The video of a request that is repeated. Raises InvalidRequest if the batch was another."""
    if request_hash != key.request_hash:
        detail = "was used before with another body: use a new key for a new batch"
        raise InvalidRequest([Problem("Idempotency-Key", detail)])
    if video.status is Status.ERASED:
        return Gone(f"the video {video.id} was erased: its ledger and its history are left", id=str(video.id))
    return video


def _refuse_invalid(results: Sequence[Result | NewVideo]) -> None:
    """Raises InvalidRequest with every problem of every request, by its place in the batch."""
    problems = [
        Problem(f"/requests/{n}{one.pointer}", one.detail)
        for n, result in enumerate(results)
        if isinstance(result, InvalidRequest)
        for one in result.problems
    ]
    if problems:
        raise InvalidRequest(problems)
