"""Videos as the API shows them, each with what it waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from service.context import Context
from service.operations.video_view import VideoView
from service.operations.waiting import Waiting, waiting
from service.videos import Video


async def views(
    ctx: Context, videos: Sequence[Video], known: Mapping[UUID, Waiting] = MappingProxyType({})
) -> list[VideoView]:
    """These videos, in their order. One statement finds out what those wait for of which it is not `known`."""
    why = {**known, **await waiting(ctx, [video for video in videos if video.id not in known])}
    return [VideoView.of(video, why.get(video.id)) for video in videos]


async def view(ctx: Context, video: Video) -> VideoView:
    """One video."""
    [shown] = await views(ctx, [video])
    return shown
