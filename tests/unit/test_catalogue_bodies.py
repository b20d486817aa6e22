"""Generated bodies of every model: the check and a JSON Schema validator judge alike, and no quote is free."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest

from service.errors import InvalidRequest, Problem
from service.runway import catalogue
from service.runway.catalogue import Model, Request
from tests.bodies import Bodies

BODIES = 60  # of each model
BOUND = Decimal(10**9)  # what a quote comes to where nothing else bounds it
# The rules that JSON Schema cannot say, by a part of their sentence.
UNSAID = ("add up to", "the same tag twice", "items: at most", "(UTF-16 code units); got 1 of them")


def build(model: Model, body: dict[str, Any]) -> Request | list[Problem]:
    """The request that a body makes, or what is wrong with it."""
    operation = model.operation if model.operation != "workflows" else "workflows/0a1b"
    try:
        return catalogue.build_request(
            operation, body, default_model=None, default_ratio="1280:720", default_duration=5, max_credits=BOUND
        )
    except InvalidRequest as exc:
        return list(exc.problems)


def of_pairs() -> list[Any]:
    return [pytest.param(model, id=f"{model.key}-{number}") for number, model in enumerate(catalogue.pairs())]


@pytest.mark.parametrize("model", of_pairs())
def test_the_check_and_the_schema_judge_alike(model: Model) -> None:
    schema = catalogue.json_schema(model.operation, model.name)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator, bodies, taken = jsonschema.Draft202012Validator(schema), Bodies(seed=7), 0
    named = {"model": model.name} if model.name != model.operation else {}
    for _ in range(BODIES):
        body = bodies.of(model.schema)
        if not isinstance(body, dict):
            continue
        body = named | body
        request = build(model, body)
        if isinstance(request, list):
            unsaid = any(words in problem.detail for problem in request for words in UNSAID)
            assert unsaid or not validator.is_valid(body), (body, request)
            continue
        assert validator.is_valid(body), body
        assert validator.is_valid(request.input), request.input
        assert build(model, request.input) == request  # what is kept can be sent again
        assert 0 < request.quoted_credits == int(request.quoted_credits)
        taken += 1
    assert taken >= BODIES // 4 or "sum" in str(model.rules)
