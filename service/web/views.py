"""Videos as the API shows them, each with what it waits for."""

from __future__ import annotations

from collections.abc import Sequence

from service.context import Context
from service.operations.video_view import VideoView
from service.operations.waiting import waiting
from service.videos import Video


async def views(ctx: Context, videos: Sequence[Video]) -> list[VideoView]:
    """These videos, in their order. One statement finds out what all of them wait for."""
    why = await waiting(ctx, videos)
    return [VideoView.of(video, why.get(video.id)) for video in videos]


async def view(ctx: Context, video: Video) -> VideoView:
    """One video."""
    [shown] = await views(ctx, [video])
    return shown
