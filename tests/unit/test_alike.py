"""Generated bodies, judged alike by the catalogue's check, by a JSON Schema validator and by the simulator.

The three have little in common: the catalogue's own walker, its published schema under `jsonschema`, and the types of
Runway's SDK with the simulator's checks. Where two of them disagree, the reason must be one that is known here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

from service.errors import InvalidRequest, Problem
from service.runway import catalogue
from service.runway.catalogue import Model, rules, walk
from service.simulator.catalogue import LIMITS, validate
from service.simulator.prices import price
from tests.drift import bounds_of_schema, entries, known_differences
from tests.generated import bodies, valid

DAILY, PRICED = 20, 30
MANY = int(os.environ.get("BODIES", "100"))
# Where the quote is never what the simulator charges: the catalogue does not see how long or large a file is, or will
# be, and counts the most that Runway takes, or the bound of the request where there is no most.
UNPROBED = frozenset(
    {
        "avatar_videos gwm1_avatars", "character_performance act_two", "image_upscale magnific_precision_upscaler_v2",
        "sound_effect seed_audio", "speech_to_speech eleven_multilingual_sts_v2", "text_to_speech seed_audio",
        "video_to_video aleph2", "video_to_video gemini_omni_flash", "video_to_video seedance2_5",
        "voice_dubbing eleven_voice_dubbing", "voice_isolation eleven_voice_isolation",
    }
)  # fmt: skip
BOUND = Decimal(1_000_000)


class Judged(NamedTuple):
    """A body, and what each judge finds wrong with it. The simulator knows no rules between fields."""

    body: dict[str, Any]
    shape: list[Problem]
    rules: list[Problem]
    schema: list[str]
    simulator: list[dict[str, Any]]


def judged(operation: str, model: Model, validator: Draft202012Validator, body: dict[str, Any]) -> Judged:
    """All three judgements. The catalogue takes a float that is whole for an integer, and fills in defaults."""
    taken = json.loads(json.dumps({key: value for key, value in body.items() if key != "model"}), parse_float=_number)
    shape = list(walk.check_object(model.schema, taken, "", model.title))
    broken = [] if shape else list(rules.check(model.rules, model.schema, taken, ""))
    refused = [error.message[:200] for error in validator.iter_errors(body)]
    filled = {name: model.fields[name]["default"] for name in model.filled}
    return Judged(body, shape, broken, refused, validate(operation, filled | body))


def disagreements(place: str, model: Model, published: dict[str, Any], verdict: Judged) -> Iterator[str]:
    """What two judges see differently, and no reason explains."""
    refused = verdict.shape or verdict.rules
    if verdict.schema and not refused:
        yield f"{place}: the schema alone refuses: {verdict.schema} {verdict.body}"
    if refused and not verdict.schema and not _is_unsaid(published, verdict):
        yield f"{place}: the catalogue's check alone refuses: {refused} {verdict.body}"
    if verdict.simulator and not verdict.shape:
        yield f"{place}: the simulator alone refuses: {verdict.simulator} {verdict.body}"
    if verdict.shape and not verdict.simulator and not _is_ours(place, model, verdict):
        yield f"{place}: the simulator alone accepts: {verdict.shape} {verdict.body}"


def _is_unsaid(published: dict[str, Any], verdict: Judged) -> bool:
    """JSON Schema counts code points, not UTF-16 code units, and cannot say every rule: those stand in prose."""
    if verdict.rules:
        return any("description" in one for one in published.get("oneOf", [published]))
    return all("UTF-16" in problem.detail for problem in verdict.shape)


def _is_ours(place: str, model: Model, verdict: Judged) -> bool:
    """The SDK's type says less, as drift_known.json has it; or the catalogue wants 1 of what multiplies a price."""
    wrong = [re.sub(r"\.\d+", "[]", problem.pointer[1:].replace("/", ".")) for problem in verdict.shape]
    known = [one.removeprefix(f"{place} ") for one in known_differences() if one.startswith(f"{place} ")]
    return all(path in leasts_of_ours(place, model) or any(path.startswith(one) for one in known) for path in wrong)


def leasts_of_ours(place: str, model: Model) -> set[str]:
    """Paths where Runway states no least number, and the catalogue wants 1: otherwise a price could be nothing."""
    operation, _, name = place.partition(" ")
    limits = LIMITS.get(operation, {}).get(name, {})
    return {path for path, ends in bounds_of_schema(model.schema).items() if ends == [1, None] and path not in limits}


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def differing(count: int) -> list[str]:
    """Every unexplained disagreement about so many bodies of each model."""
    found: list[str] = []
    for operation, name, model in entries():
        place = f"{operation} {name}"
        published = catalogue.json_schema(operation, model.name)
        validator = Draft202012Validator(published)
        named = {"model": name} if model.name == name else {}
        for body in bodies(model.schema, Random(place), count):
            found += disagreements(place, model, published, judged(operation, model, validator, named | body))
    return found


def test_the_limits_of_every_field() -> None:
    for operation, name, model in entries():
        place = f"{operation} {name}"
        simulated = {path: ends[:2] for path, ends in LIMITS.get(operation, {}).get(name, {}).items()}
        bounds, ours = bounds_of_schema(model.schema), leasts_of_ours(place, model)
        assert {path: ends for path, ends in bounds.items() if path not in ours} == simulated, place


def test_half_of_the_bodies_are_valid() -> None:
    for operation, name, model in entries():
        taken = [not any(walk.check(model.schema, body, "")) for body in bodies(model.schema, Random(name), 100)]
        assert 30 < sum(taken) < 90, (operation, name)


def test_a_few_bodies_of_every_model() -> None:
    assert differing(DAILY) == []


@pytest.mark.load
def test_many_bodies_of_every_model() -> None:
    assert differing(MANY) == []


def test_no_task_costs_more_than_its_quote() -> None:
    """The simulator has prices of its own. Where it charges less, the catalogue took the most of what is unknown."""
    unequal = set()
    for operation, name, model in entries():
        place, random = f"{operation} {name}", Random(name)
        found = (
            [excess(operation, name, model, valid(model.schema, random)) for _ in range(PRICED)] if model.price else []
        )
        differences = [one for one in found if one is not None]
        assert min(differences, default=0) >= 0, place
        if differences and 0 not in differences:
            unequal.add(place)
    assert unequal == UNPROBED


def excess(operation: str, name: str, model: Model, body: dict[str, Any]) -> Decimal | None:
    """By how much the quote exceeds what the simulator charges; None for a body that breaks a rule between fields."""
    named = {"model": name} if model.name == name else {}
    try:
        request = catalogue.build_request(
            operation, named | body, default_model=None, default_ratio="1280:720", default_duration=5, max_credits=BOUND
        )
    except InvalidRequest:
        return None
    return request.quoted_credits - price(operation, request.input)
