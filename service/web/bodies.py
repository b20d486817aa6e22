"""Reading what callers send: bounded, JSON, and validated with messages that name the field."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from service.errors import InvalidRequest, Malformed, Problem, TooLarge

M = TypeVar("M", bound=BaseModel)

SLOWEST_BODY_SECONDS = 60.0  # an image of 4.5 MB over a line of 600 kbit/s
DEEPEST = 100  # levels; what pydantic and PostgreSQL take is more, what anybody means is less
LONGEST_LENGTH = 18  # digits of a Content-Length; int() refuses thousands of them


async def read(request: Request, limit: int, *, seconds: float = SLOWEST_BODY_SECONDS) -> bytes:
    """The body, at most `limit` bytes; what is announced or comes larger is refused as soon as that is known.

    Raises TooLarge, Malformed when the caller hangs up, and HTTP's 408 when the body takes longer than `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, limit)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {seconds:g} s") from None
    except ClientDisconnect as exc:
        raise Malformed("the caller hung up before the body had arrived") from exc


async def _read(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > LONGEST_LENGTH or int(announced) > limit):
        raise _too_large(limit)
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > limit:
            raise _too_large(limit)
    return bytes(chunks)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body may have at most {limit} bytes; put large images behind an https URL")


def parse(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises Malformed with the place of the mistake."""
    try:
        value = _JSON.decode(raw.decode())
    except UnicodeDecodeError as exc:
        raise Malformed("the body is not UTF-8") from exc
    except RecursionError as exc:
        raise Malformed(f"the body is nested too deeply: {DEEPEST} levels are allowed") from exc
    except ValueError as exc:
        raise Malformed(f"the body is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise Malformed("the body must be a JSON object")
    brackets = raw.count(b"{") + raw.count(b"[")  # as many levels there may be, and no more
    if brackets > DEEPEST and _is_deeper(value, DEEPEST):
        raise Malformed(f"the body is nested too deeply: {DEEPEST} levels are allowed")
    if rb"\ud" in raw.lower() and not _is_text(value):
        raise Malformed("the body has half of a surrogate pair, which is no character")
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number there")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


# Made once: json.loads makes a new one for each text, which takes longer than to read it.
_JSON = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


def _is_deeper(value: object, levels: int) -> bool:
    """Whether `value` has more levels of objects and arrays; without recursion, which is what it protects."""
    level = [value]
    for _ in range(levels + 1):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _is_text(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def validated(model: type[M], value: dict[str, Any]) -> M:
    """`value` as this model. Raises InvalidRequest with every problem, by JSON pointer."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        problems = [Problem("".join(f"/{part}" for part in e["loc"]), _words(model, dict(e))) for e in exc.errors()]
        raise InvalidRequest(problems) from None


def _words(model: type[BaseModel], error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return f"is not a field of this request; there are: {', '.join(model.model_fields)}"
    message: str = error["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
