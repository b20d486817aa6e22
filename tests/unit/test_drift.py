"""What the comparison of catalogue and SDK says, and that it says something."""

from __future__ import annotations

from typing import Any

import pytest

from tests.drift import changed_sentences, compare, unknown
from tests.runway_types import Body, hashes

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "duration": {"enum": [4, 8]},
        "frames": {
            "anyOf": [
                {"type": "string", "format": "image-uri"},
                {"type": "array", "items": {"type": "object", "properties": {"at": {"type": "number"}}}},
            ]
        },
    },
    "required": ["duration"],
}
FRAMES = {"list": {"optional": {"at": "number"}}}
TYPE: dict[str, Any] = {
    "required": {"duration": [4, 8], "model": ["fast"]},
    "optional": {"frames": {"any": ["image", FRAMES]}},
}
SENTENCES = {"duration": "Seconds, 4 or 8.", "frames": "Up to 2 images."}


def compared(changed: Any) -> list[str]:
    """The differences of one model whose type in the SDK is this one."""
    return compare({"film": {"fast": SCHEMA}}, {"film": {"fast": Body(changed, {})}})


def test_nothing_differs() -> None:
    assert compared(TYPE) == []


def test_models_that_are_new_or_gone() -> None:
    assert compare({"film": {"fast": SCHEMA}}, {"film": {"slow": Body(TYPE, {})}, "sound": {"*": Body(TYPE, {})}}) == [
        "film fast: is gone from the SDK",
        "film slow: is new in the SDK",
        "sound *: is new in the SDK",
    ]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {**TYPE, "required": {**TYPE["required"], "duration": [4, 8, 12]}},
            "film fast duration: the catalogue has 4, 8, required, the SDK 12, 4, 8, required",
        ),
        (
            {"required": {"model": ["fast"]}, "optional": {**TYPE["optional"], "duration": [4, 8]}},
            "film fast duration: the catalogue has 4, 8, required, the SDK 4, 8, optional",
        ),
        (
            {"required": TYPE["required"], "optional": {"frames": {"any": ["video", FRAMES]}}},
            "film fast frames: the catalogue has image, list, optional, the SDK list, optional, video",
        ),
        (
            {"required": TYPE["required"], "optional": {"frames": {"any": ["image", {"list": "anything"}]}}},
            "film fast frames[]: the catalogue has object, the SDK anything",
        ),
        (
            {**TYPE, "optional": {**TYPE["optional"], "seed": "integer"}},
            "film fast seed: the catalogue has nothing, the SDK integer, optional",
        ),
    ],
)  # fmt: skip
def test_fields_that_have_changed(changed: Any, line: str) -> None:
    assert compared(changed) == [line]


def test_sentences() -> None:
    sdk = {"film": {"fast": Body(TYPE, SENTENCES)}}
    assert changed_sentences(sdk, hashes(sdk)) == []
    other = {"film": {"fast": Body(TYPE, {"duration": "Seconds, 4 or 8. 2 credits each.", "seed": "Any number."})}}
    assert changed_sentences(other, hashes(sdk)) == [
        "film fast duration: says now: Seconds, 4 or 8. 2 credits each.",
        "film fast frames: says nothing more",
        "film fast seed: says now: Any number.",
    ]


def test_a_known_difference_is_left_out_until_it_is_none() -> None:
    lines = ["film fast duration: the catalogue has 4, the SDK 8"]
    assert unknown(lines, {}) == lines
    assert unknown(lines, {"film fast duration": "a reason"}) == []
    assert unknown([], {"film fast duration": "a reason"}) == [
        "film fast duration: no longer differs, take it out of drift_known.json"
    ]
