"""The shapes of a batch. They validate, and make the document."""

from __future__ import annotations

from pydantic import ConfigDict, Field, SkipValidation

from service.operations.batch import LARGEST_BATCH
from service.operations.video_view import Schema, VideoView
from service.web.schemas import ProblemView, VideoRequest


class BatchRequest(Schema):
    """Many requests, each a video of its own."""

    model_config = ConfigDict(extra="forbid")

    requests: list[SkipValidation[VideoRequest]] = Field(
        min_length=1, max_length=LARGEST_BATCH, description="as for POST /videos, but `count` and `row`"
    )
    atomic: bool = Field(
        True, strict=True, description="all or none: with false, what is valid is queued, and each result says so"
    )


class BatchResult(Schema):
    """What became of one request: its video, or why there is none."""

    video: VideoView | None
    error: ProblemView | None


class BatchResults(Schema):
    """What a batch came to, in the order of its requests."""

    queued: int = Field(description="how many have a video")
    results: list[BatchResult]
