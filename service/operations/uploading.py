"""Uploads: files that are too large for a data URI go to Runway's own storage, and never through here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service import response_parsing
from service.context import Context
from service.errors import InvalidRequest, Problem, RunwayUnavailable, TooMany
from service.operations import relaying
from service.operations.finalize import now
from service.runway.assets import UPLOAD, UPLOAD_LIVES
from service.runway.outcomes import HttpResult

BUSY_SECONDS = 10.0  # until another attempt, where Runway's 429 does not say


@dataclass(frozen=True)
class Upload:
    """A form that takes one file: POST it to `upload_url` as multipart, with `fields` first and the part `file` last.

    `uri` then stands for the file in a request; it dies at `expires_at`.
    """

    uri: str
    upload_url: str
    fields: dict[str, str]
    expires_at: datetime


async def begin(ctx: Context, filename: str) -> Upload:
    """A form of Runway's for a file of this name.

    Raises NotConfigured, InvalidRequest and TooMany in Runway's words, and RunwayUnavailable.
    """
    body = {"filename": filename, "type": "ephemeral"}
    answer = await relaying.upload(ctx, json.dumps(body).encode())
    said = response_parsing.read(answer.body)
    if answer.status != 200:
        raise _refusal(answer, said)
    uri, url, fields = said.get("runwayUri"), said.get("uploadUrl"), said.get("fields")
    if not (_is_address(uri, UPLOAD) and _is_address(url, "http") and isinstance(fields, dict)):
        raise RunwayUnavailable("Runway's answer about the upload cannot be read")
    return Upload(str(uri), str(url), {name: str(value) for name, value in fields.items()}, now(ctx) + UPLOAD_LIVES)


def _is_address(value: Any, beginning: str) -> bool:
    return isinstance(value, str) and value.startswith(beginning)


def _refusal(answer: HttpResult, said: dict[str, Any]) -> InvalidRequest | TooMany | RunwayUnavailable:
    words = f"Runway refuses the upload: {response_parsing.words(said) or f'HTTP {answer.status}'}"
    if answer.status == 429:
        return TooMany(words, answer.retry_after or BUSY_SECONDS)
    if 400 <= answer.status < 500:
        return InvalidRequest([Problem("", words)])
    return RunwayUnavailable(words, runway_status=answer.status)
