"""What becomes of generated bodies of every model: none is free, and what is kept can be sent again as it is."""

from __future__ import annotations

from decimal import Decimal
from random import Random

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

from service.errors import InvalidRequest
from service.runway import catalogue
from service.runway.catalogue import Model, Request
from tests.generated import valid

BODIES = 8  # of each model
BOUND = Decimal(10**9)  # what a quote comes to where nothing else bounds it


def build(model: Model, body: dict[str, object]) -> Request | None:
    """The request that a body makes; None for one that breaks a rule between fields."""
    operation = f"{model.operation}/0a1b" if model.operation == "workflows" else model.operation
    try:
        return catalogue.build_request(
            operation, body, default_model=None, default_ratio="1280:720", default_duration=5, max_credits=BOUND
        )
    except InvalidRequest:
        return None


def test_a_completed_body_is_complete_and_priced() -> None:
    for model in catalogue.pairs():
        validator = Draft202012Validator(catalogue.json_schema(model.operation, model.name))
        named = {"model": model.name} if model.name != model.operation else {}
        random = Random(model.key)  # test data
        for request in filter(None, (build(model, named | valid(model.schema, random)) for _ in range(BODIES))):
            assert 0 < request.quoted_credits == int(request.quoted_credits), request
            assert validator.is_valid(request.input), request.input
            assert build(model, request.input) == request, request.input
            assert {*model.filled, *model.schema["required"]} <= request.input.keys()
