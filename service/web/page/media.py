"""What a video came to, and the image that it begins with, through this host: the page's CSP allows no other."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service import ssrf
from service.context import Context
from service.errors import RunwayUnavailable
from service.operations import reading
from service.operations.outputs import MEDIA_TYPES, Output, outputs
from service.runway import addresses
from service.runway.transport import SocketTransport
from service.videos import Video
from service.web import bodies
from service.web.auth import context_of
from service.web.schemas import FileQuery
from service.web.video_routes import video_id_of

log = logging.getLogger(__name__)

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif")
OUTPUT_TYPES = frozenset(MEDIA_TYPES.values())
NO_TYPES = ("", "application/octet-stream", "binary/octet-stream")  # of a host that does not say what it serves
LARGEST_IMAGE_BYTES = 16_000_000  # Runway takes no larger one
LARGEST_FILE_BYTES = 2_000_000_000
IMAGE_SECONDS = 5.0
FILE_HEAD_SECONDS = 30.0
FILE_SECONDS = 600.0  # a whole file over a slow line; players ask for pieces
CONNECT_SECONDS = 10.0
CHUNK_BYTES = 65_536
RANGE = re.compile(r"bytes=[0-9, -]{1,200}")
PASSED_ON = ("content-length", "content-range", "accept-ranges", "etag", "last-modified")
# Opened as a page of its own, it is no page of ours.
APART = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}

PLACEHOLDER = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 180" role="img">'
    '<rect width="320" height="180" fill="#8590a3" opacity=".18"/>'
    '<path d="M112 122l30-36 22 24 14-15 30 27zM196 74a9 9 0 1 1 18 0 9 9 0 0 1-18 0z" fill="#8590a3"/>'
    "</svg>"
)


async def file(request: Request) -> Response:
    """GET /ui/videos/{id}/media: an output, the first unless `?output=`, or the range of it that is asked for."""
    ctx = context_of(request)
    query = bodies.validated(FileQuery, dict(request.query_params))
    output = await reading.output(ctx, video_id_of(request), query.output)
    asked = request.headers.get("range", "")
    headers = {"range": asked} if RANGE.fullmatch(asked) else {}
    ends_at = ctx.monotonic() + FILE_SECONDS
    stack = AsyncExitStack()
    try:
        async with asyncio.timeout(FILE_HEAD_SECONDS):
            upstream = await _open(stack, ctx, output.url, headers, FILE_SECONDS, own_allowed=True)
        kind = _kind(upstream) if _kind(upstream) not in NO_TYPES else output.media_type
        if upstream.status_code not in (200, 206, 416) or (kind not in OUTPUT_TYPES and upstream.status_code != 416):
            raise RunwayUnavailable(f"the file's host answered {upstream.status_code} {kind}: try again in a minute")
    except TimeoutError:
        await stack.aclose()
        raise RunwayUnavailable(f"the file's host does not answer within {FILE_HEAD_SECONDS:g} s") from None
    except BaseException:
        await stack.aclose()
        raise
    passed = {name: value for name in PASSED_ON if (value := upstream.headers.get(name))}
    headers = passed | APART | {"Cache-Control": "private, no-store", "Content-Type": kind}
    pieces = _pieces(stack, upstream, LARGEST_FILE_BYTES, lambda: ctx.monotonic() < ends_at)
    return StreamingResponse(pieces, upstream.status_code, headers=headers)


async def image(request: Request) -> Response:
    """GET /ui/videos/{id}/image: the first image of the request; a placeholder where it cannot be had."""
    video = await reading.find(context_of(request), video_id_of(request))
    return await _pictured(request, image_of(video) or "", own_allowed=False)


async def thumbnail(request: Request) -> Response:
    """GET /ui/videos/{id}/thumbnail: the image that it came to, or else the first one of the request."""
    video = await reading.find(context_of(request), video_id_of(request))
    output = image_output(video)
    if output is None:
        return await _pictured(request, image_of(video) or "", own_allowed=False)
    return await _pictured(request, output.url, own_allowed=True)


async def _pictured(request: Request, uri: str, *, own_allowed: bool) -> Response:
    ctx = context_of(request)
    fetching: asyncio.Semaphore = request.app.state.images
    found = None
    with suppress(TimeoutError):
        async with asyncio.timeout(IMAGE_SECONDS), fetching:  # in all, however slowly it comes
            found = await _image(ctx, uri, own_allowed=own_allowed)
    content, kind = found or (PLACEHOLDER.encode(), "image/svg+xml")
    age = "private, max-age=3600" if found else "private, max-age=60"
    return Response(content, media_type=kind, headers=APART | {"Cache-Control": age})


def image_output(video: Video) -> Output | None:
    """The first output of a video, if that is an image."""
    first = next(iter(outputs(video)), None)
    return first if first is not None and first.kind == "image" else None


def image_of(video: Video) -> str | None:
    """The URI of the first image that a video was asked to begin with."""
    given: Any = (video.input or {}).get("promptImage") or video.image_url
    if isinstance(given, list):
        given = given[0].get("uri") if given and isinstance(given[0], dict) else None
    return given if isinstance(given, str) and given else None


async def _image(ctx: Context, uri: str, *, own_allowed: bool) -> tuple[bytes, str] | None:
    if uri.startswith("data:"):
        return _image_of_data(uri)
    try:
        async with AsyncExitStack() as stack:
            upstream = await _open(stack, ctx, uri, {}, IMAGE_SECONDS, own_allowed=own_allowed)
            if upstream.status_code != 200 or (kind := _kind(upstream)) not in IMAGE_TYPES:
                return None
            content = bytearray()
            async for piece in upstream.aiter_raw(CHUNK_BYTES):
                content += piece
                if len(content) > LARGEST_IMAGE_BYTES:
                    return None
            return bytes(content), kind
    except (RunwayUnavailable, httpx.HTTPError):
        return None


def _image_of_data(uri: str) -> tuple[bytes, str] | None:
    head, _, data = uri.partition(",")
    kind = head.removeprefix("data:").removesuffix(";base64").replace("image/jpg", "image/jpeg")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    return (content, kind) if kind in IMAGE_TYPES and head.endswith(";base64") else None


async def _open(
    stack: AsyncExitStack, ctx: Context, url: str, headers: dict[str, str], seconds: float, *, own_allowed: bool
) -> httpx.Response:
    """An answer whose body is still to be read; closed with `stack`. Raises RunwayUnavailable."""
    is_own = own_allowed and _origin(url) == _origin(ctx.settings.runway_url)
    if not is_own and (why := ssrf.complaint(url)):
        raise RunwayUnavailable(f"the address of the file {why}")
    transport = ctx.transport() if ctx.transport and is_own else _transport(is_own)
    timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
    client = httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False, timeout=timeout)
    await stack.enter_async_context(client)
    try:
        # What is passed on must be what was measured: no encoding on the way.
        return await stack.enter_async_context(
            client.stream("GET", url, headers={"accept-encoding": "identity"} | headers)
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
        raise RunwayUnavailable(f"the file's host does not answer ({type(exc).__name__})") from exc


def _transport(is_own: bool) -> httpx.AsyncBaseTransport:
    return SocketTransport(resolve=addresses.of_host if is_own else ssrf.public_addresses)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _kind(upstream: httpx.Response) -> str:
    return str(upstream.headers.get("content-type", "")).partition(";")[0].strip().lower()


async def _pieces(
    stack: AsyncExitStack, upstream: httpx.Response, limit: int, may_go_on: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The body, piece by piece; everything is closed at its end, at the end of its time, or when the browser has gone.

    A browser whose film breaks off asks for the rest of it by itself.
    """
    async with stack:
        left = limit
        async for piece in upstream.aiter_raw(CHUNK_BYTES):
            left -= len(piece)
            if left < 0:
                raise RunwayUnavailable("the file is too large")
            if not may_go_on():
                raise RunwayUnavailable("the file took too long")
            yield piece
