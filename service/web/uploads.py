"""POST /uploads: Runway's own form for a file, which its bytes go to directly."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.context import Context
from service.operations import uploading
from service.operations.video_view import Schema
from service.web import bodies


class UploadRequest(Schema):
    """A file that is to be uploaded."""

    model_config = ConfigDict(extra="forbid")

    filename: str = Field(min_length=3, max_length=255, description="its name; Runway reads the type from its ending")


class UploadView(Schema):
    """Where the file goes: POST it to `upload_url` as multipart/form-data, `fields` first and the part `file` last."""

    model_config = ConfigDict(from_attributes=True)

    uri: str = Field(description="stands for the file in `input`, once it is there")
    upload_url: str = Field(description="at Runway's storage; takes 512 bytes to 200 MB")
    fields: dict[str, str]
    expires_at: datetime = Field(description="when the uri dies; a video with it expires by then")


async def begin(ctx: Context, request: Request) -> Response:
    """POST /uploads"""
    raw = await bodies.read(request, min(bodies.SMALL_BODY_BYTES, ctx.settings.max_body_bytes))
    return await answer(ctx, bodies.parse(raw))


async def answer(ctx: Context, body: dict[str, Any]) -> Response:
    """The form for what `body` asks for, an UploadRequest, as JSON. Raises as `uploading.begin`."""
    asked = bodies.validated(UploadRequest, body)
    shown = UploadView.model_validate(await uploading.begin(ctx, asked.filename))
    return JSONResponse(shown.model_dump(mode="json"), headers={"Cache-Control": "no-store"})
