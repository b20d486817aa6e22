"""The catalogue's files: what they may say, where a mistake in one is named, and how a patch changes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.runway import catalogue
from service.runway.catalogue import CatalogueError
from service.runway.catalogue.load import merge

SECONDS = {"type": "integer", "minimum": 1, "maximum": 9}
FRAMES = {
    "type": "array",
    "items": {"type": "object", "properties": {"at": {"enum": ["a", "b"]}}, "additionalProperties": False},
}


def load(**entry: Any) -> catalogue.Catalogue:
    """A catalogue of one model, with these parts of it."""
    whole = {"properties": {"duration": SECONDS, "frames": FRAMES, "loud": {"type": "boolean"}}, "required": []} | entry
    return catalogue.of_files({"op": {"output": "video/mp4", "models": {"m": whole}}})


def test_the_example_itself_is_loaded() -> None:
    price = {"add": [{"rate": {"by": "loud", "true": 2, "false": 1}, "times": "duration"}], "minimum": 3}
    rules = [{"list": "frames", "distinct": "at"}, {"when": {"loud": [True]}, "need": ["duration"]}]
    model = load(price=price, rules=rules).model("op", "m")
    assert model is not None
    assert (model.price, list(model.rules)) == (price, rules)


@pytest.mark.parametrize(
    ("field", "place", "why"),
    [
        ("text", "", "must be an object"),
        ({"type": "text"}, "/type", "must be one of string, integer"),
        ({"type": "integer", "multipleOf": 2}, "/multipleOf", "is no keyword here"),
        ({"type": "integer", "minLength": 2}, "/minLength", "is no keyword here"),
        ({"enum": []}, "/enum", "must be a list of words"),
        ({"enum": [None]}, "/enum", "must be a list of words"),
        ({"const": []}, "/const", "must be a word"),
        ({"type": "string", "maxLength": -1}, "/maxLength", "must be a whole number"),
        ({"type": "string", "pattern": "("}, "/pattern", "must be a regular expression"),
        ({"type": "string", "format": "email"}, "/format", "must be one of image-uri"),
        ({"type": "number", "minimum": "2"}, "/minimum", "must be a number"),
        ({"type": "array", "items": 5}, "/items", "must be an object"),
        ({"type": "array", "x-seconds": [3, 2]}, "/x-seconds", "must be a list of two numbers"),
        ({"anyOf": [{"type": "string"}]}, "/anyOf", "must be a list of two schemas"),
        ({"anyOf": [{"type": "string"}, {"type": "x"}]}, "/anyOf/1/type", "must be one of"),
        ({"type": "object", "properties": {"a": {}}}, "/additionalProperties", "must be false beside properties"),
        ({"type": "object", "required": ["a"]}, "/required", "names a, which is not among the properties"),
        ({"type": "object", "required": "a"}, "/required", "must be a list of names"),
        ({"type": "integer", "maximum": 5, "default": 6}, "/default", "must be a whole number"),
        ({"$ref": "#/$defs/nowhere"}, "/$ref", "nowhere is not a shape"),
    ],
)
def test_a_field_says_only_what_is_understood(field: Any, place: str, why: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        load(properties={"f": field})
    assert caught.value.place == f"op/models/m/properties/f{place}"
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("entry", "place", "why"),
    [
        ({"prices": None}, "/prices", "is not known"),
        ({"strict": "no"}, "/strict", "must be true or false"),
        ({"required": ["b"]}, "/required", "names b"),
        ({"rules": [{"if": 1}]}, "/rules/0", "must have `when`, `list` or `count`"),
        ({"rules": [{"when": {"loud": [True]}}]}, "/rules/0", "must have `when` and"),
        ({"rules": [{"when": {"loud": [True]}, "needs": ["loud"]}]}, "/rules/0", "must have `when` and"),
        ({"rules": [{"when": {"quiet": [True]}, "need": ["loud"]}]}, "/rules/0", "names quiet"),
        ({"rules": [{"list": "frames", "sorted": "at"}]}, "/rules/0", "must be a list's rule"),
        ({"rules": [{"list": "frames", "distinct": "by"}]}, "/rules/0", "names frames.by"),
        ({"rules": [{"when": 5, "need": ["loud"]}]}, "/rules/0", "has a part of the wrong type"),
        ({"rules": [{"count": 5, "at_most": 1}]}, "/rules/0", "has a part of the wrong type"),
        ({"price": {"add": [{"rate": 1, "times": {"count": 5}}]}}, "/price", "has a part of the wrong type"),
        ({"outputs": []}, "/outputs", "has a part of the wrong type"),
        ({"price": 5}, "/price", "must be an object"),
        ({"price": {"minimum": 5}}, "/price", "lacks add"),
        ({"price": {"add": []}}, "/price/add", "must be a list of terms"),
        ({"price": {"add": [{"rate": 0}]}}, "/price/add/0/rate", "must be a number above 0"),
        ({"price": {"add": [{"rate": -1}]}}, "/price/add/0/rate", "must be a number above 0"),
        ({"price": {"add": [{"rate": 1}], "minimum": 0}}, "/price/minimum", "must be a number above 0"),
        ({"price": {"add": [{"rate": 1, "times": "seconds"}]}}, "/price/add/0/times", "names seconds"),
        ({"price": {"add": [{"rate": 1, "times": "loud"}]}}, "/price/add/0/times", "needs a minimum above 0"),
        ({"price": {"add": [{"rate": 1, "times": {"frames": "f"}}]}}, "/price/add/0/times", "must be one of seconds"),
        ({"price": {"add": [{"rate": {"by": "loud", "true": 1}}]}}, "/price/add/0/rate", "lacks false of loud"),
        ({"price": {"add": [{"rate": {"true": 1}}]}}, "/price/add/0/rate/by", "must name a field"),
        ({"price": {"add": [{"rate": {"by": "loud MP", "big": 1}}]}}, "/price/add/0/rate", "a number for each band"),
        (
            {"price": {"add": [{"rate": {"by": "loud", "true": "x", "false": 1}}]}},
            "/price/add/0/rate/true",
            "0 or more",
        ),
        ({"outputs": {"by": "loud", "true": "audio/wav"}}, "/outputs", "lacks false of loud"),
    ],
)
def test_a_model_says_only_what_is_understood(entry: dict[str, Any], place: str, why: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        load(**entry)
    assert caught.value.place == f"op/models/m{place}"
    assert why in caught.value.why


@pytest.mark.parametrize("duration", [{"type": "integer"}, {"type": "integer", "minimum": 0}, {"enum": [0, 5]}])
def test_what_could_make_a_price_free_is_not_loaded(duration: dict[str, Any]) -> None:
    price = {"add": [{"rate": 5, "times": "duration"}]}
    with pytest.raises(CatalogueError, match="needs a minimum above 0"):
        load(properties={"duration": duration}, price=price)
    assert load(properties={"duration": {"anyOf": [{"const": "auto"}, {"enum": [4]}]}}, price=price)


def test_a_file_says_only_what_is_understood() -> None:
    for said, place in [([], "op"), ({"models": {}}, "op"), ({"output": "mp4", "models": {}}, "op/output")]:
        with pytest.raises(CatalogueError) as caught:
            catalogue.of_files({"op": said})
        assert caught.value.place == place


def test_a_shape_within_itself_is_not_loaded() -> None:
    shape = {"type": "array", "items": {"$ref": "#/$defs/list"}}
    model = {"properties": {"f": {"$ref": "#/$defs/list"}}, "required": []}
    files = {"shapes": {"$defs": {"list": shape}}, "op": {"output": "video/mp4", "models": {"m": model}}}
    with pytest.raises(CatalogueError, match="contains itself"):
        catalogue.of_files(files)


def test_a_merge_patch_merges_objects_and_removes_nulls() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(base, {"a": {"b": None, "c": [3]}, "e": {"f": None, "g": 2}}) == {
        "a": {"c": [3]},
        "d": 1,
        "e": {"g": 2},
    }
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def patched(tmp_path: Path, patch: Any) -> catalogue.Catalogue:
    path = tmp_path / "catalogue.json"
    path.write_text(patch if isinstance(patch, str) else json.dumps(patch))
    return catalogue.overlaid(path)


def test_a_file_of_the_operators_adds_changes_and_removes_models(tmp_path: Path) -> None:
    new = {
        "properties": {"promptText": {"$ref": "#/$defs/text_of_1000"}, "duration": {"enum": [5]}},
        "required": ["promptText", "duration"],
        "price": {"add": [{"rate": 7, "times": "duration"}]},
    }
    turbo = {"price": {"add": [{"rate": 6, "times": "duration"}]}}
    patch = {
        "text_to_video": {"models": {"gen6": new, "wan3": None}},
        "image_to_video": {"models": {"gen4_turbo": turbo}},
    }
    found = patched(tmp_path, patch)
    assert {"gen6", "gen4.5"} <= set(catalogue.models("text_to_video", found))
    assert "wan3" not in catalogue.models("text_to_video", found)
    request = catalogue.build_request(
        "text_to_video", {"model": "gen6", "promptText": "a cat", "duration": 5},
        default_model=None, default_ratio="1280:720", default_duration=5, catalogue=found,
    )  # fmt: skip
    assert request.quoted_credits == 35
    assert catalogue.infer_operation({"model": "gen6"}, found) == "text_to_video"
    assert catalogue.json_schema("text_to_video", "gen6", found)["required"] == ["model", "promptText", "duration"]


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ("{", "catalogue.json cannot be read as JSON"),
        ("[]", "catalogue.json must be an object"),
        ({"text_to_video": {"models": {"gen4.5": {"prise": 1}}}}, "text_to_video/models/gen4.5/prise is not known"),
        (
            {"text_to_video": {"models": {"gen4.5": {"properties": {"duration": {"multipleOf": 2}}}}}},
            "text_to_video/models/gen4.5/properties/duration/multipleOf is no keyword here",
        ),
        ({"new_endpoint": {"models": {}}}, "new_endpoint lacks output"),
        ({"shapes": {"$defs": {"seed": None}}}, "seed is not a shape"),
    ],
)
def test_a_broken_file_of_the_operators_is_refused_with_its_place(tmp_path: Path, patch: Any, why: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        patched(tmp_path, patch)
    assert str(tmp_path) in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read"):
        catalogue.overlaid(tmp_path / "none.json")
