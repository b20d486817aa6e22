"""Reading what callers send: bounded, JSON, and validated with messages that name the field."""

from __future__ import annotations

import asyncio
from math import isfinite
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from service.errors import InvalidRequest, Malformed, Problem, TooLarge

M = TypeVar("M", bound=BaseModel)

SLOWEST_BODY_SECONDS = 60.0  # an image of 4.5 MB over a line of 600 kbit/s
SMALL_BODY_BYTES = 10_000  # for what has no image in it
LARGEST_FILTER_BYTES = 64_000
DEEPEST = 100  # levels; what pydantic and PostgreSQL take is more, what anybody means is less
MOST_VALUES = 10_000  # in a body; metadata, the part of it that has the most, has 16,000 bytes
MOST_COMMAS_IN_TEXTS = 20_000  # counted before anything is read: what has more of them has too many values
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


def parse(raw: bytes, most_values: int = MOST_VALUES) -> dict[str, Any]:
    """A JSON object whose size is bounded. Raises Malformed with the place of the mistake."""
    if len(raw) > most_values and raw.count(b",") > most_values + MOST_COMMAS_IN_TEXTS:
        raise _too_many_values(most_values)
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as exc:
        raise Malformed(f"the body is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise Malformed("the body must be a JSON object")
    _check(value, most_values)
    return value


def _check(body: dict[str, Any], most_values: int) -> None:
    """Level by level: how deep it is, how many values it has, and whether each number is finite (`1e400` is not)."""
    level: list[Any] = [body]
    left = most_values
    for _ in range(DEEPEST):
        below = []
        for one in level:
            left -= len(one)
            if left < 0:
                raise _too_many_values(most_values)
            for inner in one.values() if type(one) is dict else one:
                kind = type(inner)
                if kind is dict or kind is list:
                    below.append(inner)
                elif kind is float and not isfinite(inner):
                    raise Malformed("the body is not JSON: a number in it is too large")
        if not below:
            return
        level = below
    raise Malformed(f"the body is nested too deeply: {DEEPEST} levels are allowed")


def _too_many_values(most: int) -> Malformed:
    return Malformed(f"the body has more than {most} values")


def validated(model: type[M], value: dict[str, Any]) -> M:
    """`value` as this model. Raises InvalidRequest with every problem, by JSON pointer."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        problems = [Problem("".join(f"/{part}" for part in e["loc"]), _words(model, dict(e))) for e in errors]
        raise InvalidRequest(problems) from None


def _words(model: type[BaseModel], error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return f"is not a field of this request; there are: {', '.join(model.model_fields)}"
    message: str = error["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
