"""A request, checked against the catalogue, completed and priced before anything is queued. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from service.errors import InvalidRequest, Problem
from service.runway.assets import signature_ends
from service.runway.catalogue import price, rules, walk
from service.runway.catalogue.lenient import FieldWarning, fit
from service.runway.catalogue.load import Catalogue, Model, Operation
from service.runway.messages import escaped, listed, truncate

GREATEST_WHOLE = 2**53  # above it, a float is not the number that was written
ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True)
class Request:
    """A request that Runway can take: the complete body of the POST, and the most it can cost in credits.

    `warnings`: what was asked for beside the body, and is not in it.
    """

    operation: str
    model: str
    input: dict[str, Any]
    quoted_credits: Decimal
    warnings: tuple[FieldWarning, ...] = ()


@dataclass(frozen=True)
class Bounds:
    """What a video may cost at most: `asked` by its request, `allowed` by pattern, as MAX_CREDITS_PER_VIDEO has it."""

    asked: Decimal | None = None
    allowed: Mapping[str, Decimal] = field(default_factory=dict)

    def allowed_for(self, model: Model) -> Decimal | None:
        """What the first pattern allows that fits this model, as `video_to_video/aleph2`, `recipes/*` or `*`."""
        return next((bound for pattern, bound in self.allowed.items() if fnmatchcase(model.key, pattern)), None)


def build(
    catalogue: Catalogue,
    operation: str,
    input: dict[str, Any],
    *,
    default_model: str | None,
    wishes: Mapping[str, Any],
    default_ratio: str,
    lenient: Mapping[str, Any],
    sent_at: datetime | None,
    bounds: Bounds,
) -> Request:
    """Check, complete and price one request. Raises InvalidRequest with every problem at once."""
    found = known(catalogue, operation)
    if not isinstance(input, dict):
        raise InvalidRequest([Problem("/input", f"must be an object, as Runway takes it; got {truncate(input)}")])
    model = _entry(found, input, default_model)
    problems = _wrong_path(found, operation)
    given = _intake({key: value for key, value in input.items() if key != "model"}, ("input",), problems)
    fitted = fit(model, given, lenient, default_ratio)
    given |= fitted.fields
    problems += [*fitted.problems, *walk.check_object(model.schema, given, "/input", model.title)]
    if not problems:
        problems += rules.check(model.rules, model.schema, given, "/input")
    if sent_at is not None and not problems:
        problems += _ended(given, ("input",), sent_at)
    if problems:
        raise InvalidRequest(problems)
    body = _completed(model, given, wishes)
    quoted = _quoted(model, body, bounds)
    named = {"model": model.name} if found.chosen_by == "model" else {}
    return Request(operation, model.name, named | body, quoted, tuple(fitted.warnings))


def known(catalogue: Catalogue, operation: object) -> Operation:
    """The operation of this name. Raises InvalidRequest, naming those that there are."""
    found = catalogue.operation(operation) if isinstance(operation, str) else None
    if found is None:
        wanted = ", ".join(catalogue.operations)
        raise InvalidRequest([Problem("/operation", f"must be one of {wanted}; got {truncate(operation)}")])
    return found


def _wrong_path(found: Operation, operation: str) -> list[Problem]:
    """An operation whose path ends with an id is asked for with one."""
    id = operation.removeprefix(found.name).removeprefix("/")
    if not found.needs_id or ID.fullmatch(id):
        return []
    return [Problem("/operation", f"must be {found.name}/ID, with the id that Runway shows for it")]


def _entry(operation: Operation, input: Mapping[str, Any], default_model: str | None) -> Model:
    """The entry for this body. Raises InvalidRequest, naming those that there are."""
    entries = operation.entries
    if operation.chosen_by is None:
        return next(iter(entries.values()))
    if operation.chosen_by == "model":
        usual = next(iter(entries)) if default_model is None and len(entries) == 1 else default_model
    else:
        usual = None
    name = input.get(operation.chosen_by, usual)
    if isinstance(name, str) and name in entries:
        return entries[name]
    wanted = f"must be one of {listed(list(entries))} for {operation.name}; got {truncate(name)}"
    raise InvalidRequest([Problem(f"/input/{operation.chosen_by}", wanted)])


def _intake(value: Any, place: tuple[str | int, ...], problems: list[Problem]) -> Any:
    """The value as it is kept: 5.0 is 5, as in JSON. Notes texts that cannot be stored."""
    if isinstance(value, dict):
        return {key: _intake(one, (*place, key), problems) for key, one in value.items()}
    if isinstance(value, list):
        return [_intake(one, (*place, number), problems) for number, one in enumerate(value)]
    if isinstance(value, str) and not value.startswith("data:") and walk.UNSTORABLE.search(value):
        problems.append(Problem(_pointer(place), "contains a NUL character or half of a surrogate pair: remove it"))
    if isinstance(value, float) and value.is_integer() and abs(value) < GREATEST_WHOLE:
        return int(value)
    return value


def _pointer(place: tuple[str | int, ...]) -> str:
    return "".join(f"/{escaped(str(part))}" for part in place)


def _ended(value: Any, place: tuple[str | int, ...], sent_at: datetime) -> Iterator[Problem]:
    """Every address whose signature ends before the request is sent."""
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _ended(one, (*place, key), sent_at)
    elif isinstance(value, str) and (ends := signature_ends(value)) is not None and ends <= sent_at:
        words = f"its signature ends at {ends:%Y-%m-%d %H:%M:%S} UTC, before the video is sent"
        yield Problem(_pointer(place), f"{words}: sign the address for longer, or upload the file to Runway")


def _completed(model: Model, given: Mapping[str, Any], wishes: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the defaults of what Runway requires and of what the price reads, so that the quote holds.

    A wish takes the place of a default where the model takes it. A default that breaks a rule is left out.
    """
    body = dict(given)
    for name in (*model.filled, *price.reads(model.price, given)):
        field = model.fields.get(name, {})
        if name in body or "default" not in field:
            continue
        fits = name in wishes and not any(walk.check(field, wishes[name], name))
        completed = body | {name: wishes[name] if fits else field["default"]}
        if not any(rules.check(model.rules, model.schema, completed, "")):
            body = completed
    return body


def _quoted(model: Model, body: Mapping[str, Any], bounds: Bounds) -> Decimal:
    """The most that this body can cost: by its price, else by the bound. Raises InvalidRequest."""
    quoted, allowed = price.quote(model.price, model.schema, body), bounds.allowed_for(model)
    if quoted is None:
        quoted = allowed if bounds.asked is None else bounds.asked
    if quoted is None:
        words = f"is required: what {model.title} costs is not known, so the most that you would pay must be. Give "
        ways = "max_credits in the request, a column for it in the link, or MAX_CREDITS_PER_VIDEO for this model"
        raise InvalidRequest([Problem("/max_credits", words + ways)])
    for name, bound in (("max_credits", bounds.asked), ("MAX_CREDITS_PER_VIDEO", allowed)):
        if bound is not None and quoted > bound:
            words = f"this may cost {_plain(quoted)} credits, and {name} is {_plain(bound)}: ask for less, or raise it"
            raise InvalidRequest([Problem("/max_credits", words)])
    return quoted


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
