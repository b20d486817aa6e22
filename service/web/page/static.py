"""/static/{path}: stylesheet, scripts and pictures, out of the package. An address with a version never expires."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parents[1] / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
VERSION_LENGTH = 12
FOR_GOOD = "public, max-age=31536000, immutable"
ASK_AGAIN = "public, no-cache"


@cache
def _file(name: str) -> tuple[bytes, str]:
    """A file's content and version. Raises KeyError if there is none of this name."""
    if name not in {path.name for path in FOLDER.iterdir()}:
        raise KeyError(name)
    content = (FOLDER / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:VERSION_LENGTH]


@cache
def address(name: str) -> str:
    """The path of a file, with its version. Raises KeyError."""
    return f"/static/{name}?v={_file(name)[1]}"


async def serve(request: Request) -> Response:
    """GET /static/{path}: the stylesheet and the scripts of the page."""
    name = request.path_params["path"]
    try:
        content, version = _file(name)
    except KeyError:
        raise HTTPException(404, "there is no such file") from None
    etag = f'"{version}"'
    headers = {
        "ETag": etag,
        "Cache-Control": FOR_GOOD if request.query_params.get("v") == version else ASK_AGAIN,
        "X-Content-Type-Options": "nosniff",
    }
    if etag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=TYPES[Path(name).suffix], headers=headers)
