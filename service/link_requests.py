"""The request that a row or a caller makes, checked and priced with the defaults of the settings. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from service.errors import InvalidRequest, Problem
from service.runway.catalogue import Request, build_request, fields_of, infer_operation
from service.runway.messages import truncate
from service.settings import Settings

# By column, what models call it. A model that has none of these is sent none: every linked table has a prompt.
OWN_NAMES = {"prompt": ("promptText", "prompt"), "image": ("promptImage", "imageUri")}
SECONDS = re.compile(r"\s*(\d+)(?:\.0*)?\s*(?:s|sec|seconds)?\s*", re.IGNORECASE)


def request_of(row: Mapping[str, Any], settings: Settings, sent_at: datetime | None = None) -> Request:
    """What a row asks for, checked and priced; its operation is inferred from its image.

    `row` has the values of the mapped columns by their key (prompt, image, model, ratio, duration, max_credits, input),
    as read or as text. A column that has a value wins over the same field in `input`. `sent_at`: as in build_request.
    Raises InvalidRequest.
    """
    body = _object(row.get("input"))
    texts = {key: value.strip() for key, value in row.items() if isinstance(value, str) and value.strip()}
    body |= {name: texts[name] for name in ("model", "ratio") if name in texts}
    taken = fields_of(body.get("model"))
    for key, names in OWN_NAMES.items():
        name = next((name for name in names if name in taken), None) if taken else names[0]
        if name and key in texts:
            body[name] = texts[key]
    duration = row.get("duration")
    if duration is not None and str(duration).strip():
        body["duration"] = _seconds(duration)
    return checked(None, body, settings, sent_at, max_credits=_credits(row.get("max_credits")))


def checked(
    operation: str | None,
    body: dict[str, Any],
    settings: Settings,
    sent_at: datetime | None = None,
    lenient: Mapping[str, Any] | None = None,
    max_credits: Decimal | None = None,
) -> Request:
    """A request with the defaults and bounds of the settings where `body` has none. Raises InvalidRequest.

    Without an operation it is inferred from `body`. `sent_at`, `lenient`, `max_credits`: as in build_request.
    """
    operation = infer_operation(body) if operation is None else operation
    usual = {"image_to_video": settings.image_model, "text_to_video": settings.text_model}
    return build_request(
        operation, body, default_model=usual.get(operation),
        default_ratio=settings.default_ratio, default_duration=settings.default_duration, sent_at=sent_at,
        lenient=lenient, max_credits=max_credits, allowed_credits=settings.max_credits_per_video,
    )  # fmt: skip


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidRequest([Problem("/input", "is no JSON")]) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest([Problem("/input", "must be a JSON object")])
    return dict(value)


def _credits(value: Any) -> Decimal | None:
    """A bound in credits. Raises InvalidRequest for what is no number above 0."""
    if value is None or not str(value).strip():
        return None
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or found <= 0:
        raise InvalidRequest([Problem("/max_credits", f"must be a number of credits above 0; got {truncate(value)}")])
    return found


def _seconds(value: Any) -> Any:
    """Whole seconds out of `5`, `5.0`, `'5'` or `'5s'`; anything else as it is, for the catalogue to refuse."""
    found = SECONDS.fullmatch(str(value))
    return int(found[1]) if found else value
