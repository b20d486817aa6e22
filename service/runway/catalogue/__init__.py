"""Runway's models as data: what may be asked of each, checked and priced before anything is queued.

Each endpoint that makes a task is a JSON file here; README.md says how they read. A model is added there, or in the
file that CATALOGUE_FILE names, without code. Everything here is pure once the files have been read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from service.errors import InvalidRequest, Problem
from service.runway.catalogue import infer, paths, published, request
from service.runway.catalogue.load import Catalogue, Model, Operation, of_files, overlaid, packaged
from service.runway.catalogue.request import Bounds, Request
from service.runway.catalogue.strict import CatalogueError
from service.runway.messages import truncate

__all__ = [
    "PACKAGED", "Bounds", "Catalogue", "CatalogueError", "Model", "Operation", "Request", "build_request", "current",
    "fields_of", "infer_operation", "json_schema", "media_type", "models", "of_files", "operations", "overlaid",
    "pairs", "use",
]  # fmt: skip

PACKAGED = packaged()  # only the names of its files are read yet
_in_use = [PACKAGED]


def current() -> Catalogue:
    """The catalogue of this process: the packaged one, until `use` has set another."""
    return _in_use[0]


def use(path: str | None) -> None:
    """Read the catalogue with this file, a JSON Merge Patch, over it; without one the packaged. Raises CatalogueError.

    For the start of a process, which has read its settings.
    """
    _in_use[0] = overlaid(Path(path)) if path else PACKAGED


def operations(catalogue: Catalogue | None = None) -> tuple[str, ...]:
    """The operations, by Runway's names: the path after /v1/."""
    return (catalogue or current()).operations


def models(operation: str, catalogue: Catalogue | None = None) -> tuple[str, ...]:
    """The models of one operation. Raises InvalidRequest for an unknown operation."""
    return request.known(catalogue or current(), operation).models


def pairs(catalogue: Catalogue | None = None) -> list[Model]:
    """Every entry: each model of each operation, and each form of body of an operation that has several."""
    catalogue = catalogue or current()
    found = [catalogue.operation(name) for name in catalogue.operations]
    return [model for operation in found if operation for model in operation.entries.values()]


def fields_of(model: object, catalogue: Catalogue | None = None) -> set[str]:
    """Every field that a model takes in one of its operations; none for one that is not known."""
    return {field for one in pairs(catalogue) if one.name == model for field in one.fields}


def infer_operation(input: Mapping[str, Any], catalogue: Catalogue | None = None) -> str:
    """The operation that this input is for. Raises InvalidRequest if two of them fit equally well."""
    return infer.infer(catalogue or current(), input)


def media_type(
    operation: str | None, model: str | None, input: Mapping[str, Any], catalogue: Catalogue | None = None
) -> str:
    """What the files of this request are, such as `video/mp4`, or only their kind, such as `image/*`."""
    found = (catalogue or current()).model(operation, model)
    if found is None:
        return "video/mp4"
    if found.outputs is None:
        return found.output
    value = next(iter(paths.values_at(input, found.schema, found.outputs["by"])), None)
    return found.outputs.get(paths.key(value), found.output)


def json_schema(operation: str, model: str, catalogue: Catalogue | None = None) -> dict[str, Any]:
    """JSON Schema 2020-12 of the input that `build_request` takes. Raises InvalidRequest."""
    known = request.known(catalogue or current(), operation)
    found = [published.schema_of(entry) for entry in known.entries.values() if entry.name == model]
    if not found:
        wanted = f"must be one of {', '.join(known.models)} for {operation}; got {truncate(model)}"
        raise InvalidRequest([Problem("/input/model", wanted)])
    return found[0] if len(found) == 1 else {"type": "object", "oneOf": found}


def build_request(
    operation: str,
    input: dict[str, Any],
    *,
    default_model: str | None,
    default_ratio: str,
    default_duration: int,
    lenient: Mapping[str, Any] | None = None,
    sent_at: datetime | None = None,
    max_credits: Decimal | None = None,
    allowed_credits: Mapping[str, Decimal] | None = None,
    catalogue: Catalogue | None = None,
) -> Request:
    """Check, complete and price one request. Raises InvalidRequest with every problem at once.

    `lenient`: fields beside the input, as `lenient.fit` takes them. `sent_at`: the earliest time at which it is sent;
    a file whose signed address has ended by then is refused. A default that the model does not take gives way to the
    model's own; a value of the caller's never does. `max_credits`: the most that it may cost; `allowed_credits`: the
    same by pattern, as MAX_CREDITS_PER_VIDEO has it. Where the price is not known, the bound is the quote.
    """
    return request.build(
        catalogue or current(), operation, input,
        default_model=default_model, wishes={"ratio": default_ratio, "duration": default_duration},
        default_ratio=default_ratio, lenient=lenient or {}, sent_at=sent_at,
        bounds=Bounds(max_credits, allowed_credits or {}),
    )  # fmt: skip
