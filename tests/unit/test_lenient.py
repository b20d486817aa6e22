"""The lenient fields: what each model is sent for them, what is warned about, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import InvalidRequest
from service.runway import catalogue
from service.runway.catalogue import Catalogue, Request
from service.runway.catalogue.lenient import FieldWarning

IMAGE = "https://images.example.com/cat.png"
SIX = {
    "16:9": "1280:720", "9:16": "720:1280", "4:3": "1104:832", "1:1": "960:960", "3:4": "832:1104", "21:9": "1584:672",
}  # fmt: skip
TWO = {"16:9": "1280:720", "9:16": "720:1280"}
# What the three models of Runway's own have; the shapes of all others follow by the same rule.
SHAPES = {
    ("image_to_video", "gen4_turbo"): SIX,
    ("image_to_video", "gen4.5"): SIX,
    ("text_to_video", "gen4.5"): TWO,
}


PAIRS = list(SHAPES)


def build(
    operation: str,
    model: str,
    lenient: dict[str, Any],
    *,
    default_ratio: str = "1280:720",
    models: Catalogue | None = None,
    **input: Any,
) -> Request:
    known = {"promptText": "a cat", "promptImage": IMAGE}
    pair = (models or catalogue.current()).model(operation, model)
    body = {name: value for name, value in known.items() if pair and name in pair.fields}
    return catalogue.build_request(
        operation, {"model": model, **body, **input}, default_model=model, default_ratio=default_ratio,
        default_duration=5, lenient=lenient, catalogue=models,
    )  # fmt: skip


def problems(operation: str, model: str, lenient: dict[str, Any], **more: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        build(operation, model, lenient, **more)
    return {problem.pointer: problem.detail for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("operation", "model", "aspect", "ratio"),
    [(*pair, aspect, ratio) for pair, shapes in SHAPES.items() for aspect, ratio in shapes.items()],
)
def test_each_shape_of_each_model(operation: str, model: str, aspect: str, ratio: str) -> None:
    pixels = ratio.replace(":", "x")
    by_both = {"aspect_ratio": aspect, "resolution": "720P"}
    for lenient in ({"aspect_ratio": aspect}, {"aspect_ratio": ratio}, {"resolution": pixels}, by_both):
        request = build(operation, model, lenient)
        assert (request.input["ratio"], request.warnings) == (ratio, ())


@pytest.mark.parametrize(("operation", "model"), PAIRS)
@pytest.mark.parametrize(
    "aspect", ["5:4", "2:1", "16:10", "adaptive", "16:0", "0:9", "wide", "16x9", "-16:-9", "1:1:1"]
)
def test_a_shape_that_a_model_lacks_is_refused_with_those_that_it_has(operation: str, model: str, aspect: str) -> None:
    has = ", ".join(f"{name} ({ratio})" for name, ratio in SHAPES[operation, model].items())
    refused = problems(operation, model, {"aspect_ratio": aspect})
    assert refused == {"/aspect_ratio": f"must be one of {has}; got '{aspect}'"}


@pytest.mark.parametrize(("operation", "model"), PAIRS)
@pytest.mark.parametrize("resolution", ["1920x1080", "1080p", "768p", "720", "4k", "1280 x 720"])
def test_a_resolution_that_a_model_lacks_is_refused_with_those_that_it_has(
    operation: str, model: str, resolution: str
) -> None:
    has = ", ".join(f"{ratio.replace(':', 'x')} (720p)" for ratio in SHAPES[operation, model].values())
    refused = problems(operation, model, {"resolution": resolution})
    assert refused == {"/resolution": f"must be one of {has}; got '{resolution}'"}


def test_ratio_and_resolution_must_go_together() -> None:
    refused = problems("image_to_video", "gen4_turbo", {"aspect_ratio": "9:16", "resolution": "1280x720"})
    assert refused == {"/resolution": "must be one of 720x1280 (720p); got '1280x720'"}


def test_another_writing_of_the_same_ratio() -> None:
    for aspect in ("32:18", "1.6:0.9", "1280:720"):
        assert build("text_to_video", "gen4.5", {"aspect_ratio": aspect}).input["ratio"] == "1280:720"


def test_where_several_fit_the_default_is_taken_else_the_first() -> None:
    for default, ratio in (("720:1280", "720:1280"), ("960:960", "960:960"), ("1:1", "1280:720")):
        request = build("image_to_video", "gen4_turbo", {"resolution": "720p"}, default_ratio=default)
        assert request.input["ratio"] == ratio


@pytest.mark.parametrize(
    ("lenient", "ratio", "pointer"),
    [
        ({"aspect_ratio": "16:9"}, "1280:720", None),
        ({"resolution": "720p"}, "960:960", None),
        ({"aspect_ratio": "9:16"}, "1280:720", "/aspect_ratio"),
        ({"resolution": "720x1280"}, "1280:720", "/resolution"),
        ({"aspect_ratio": "9:16"}, "16:9", "/input/ratio"),
    ],
)
def test_what_contradicts_the_input_is_refused(lenient: dict[str, str], ratio: str, pointer: str | None) -> None:
    if pointer is None:
        assert build("image_to_video", "gen4_turbo", lenient, ratio=ratio).input["ratio"] == ratio
    else:
        assert problems("image_to_video", "gen4_turbo", lenient, ratio=ratio).keys() == {pointer}


@pytest.mark.parametrize(("operation", "model"), PAIRS)
@pytest.mark.parametrize(
    ("feature", "value"), [("fps", 24), ("generate_audio", True), ("generate_audio", False), ("references", [IMAGE])]
)
def test_what_a_model_has_no_notion_of_is_a_warning_and_not_sent(
    operation: str, model: str, feature: str, value: Any
) -> None:
    request = build(operation, model, {feature: value})
    message = f"{model} in {operation} has no {feature}: it is not sent"
    assert request.warnings == (FieldWarning("unsupported", feature, message),)
    assert request.input == build(operation, model, {}).input


def test_what_was_not_given_is_no_warning() -> None:
    assert build("text_to_video", "gen4.5", {"fps": None, "aspect_ratio": None}).warnings == ()


# A model of another maker: sound, frames a second and references; no shape.
OTHER_MODELS = {
    "text_to_video": {
        "output": "video/mp4",
        "models": {
            "loud": {
                "properties": {
                    "duration": {"enum": [4, 8], "default": 8},
                    "audio": {"type": "boolean", "default": True},
                    "targetFramerate": {"type": "integer", "minimum": 24, "maximum": 60},
                    "references": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"uri": {"type": "string", "format": "image-uri"}},
                            "required": ["uri"],
                            "additionalProperties": False,
                        },
                    },
                },
                "required": [],
                "price": {"add": [{"rate": {"by": "audio", "true": 40, "false": 20}, "times": "duration"}]},
            }
        },
    }
}
REFERENCES = [{"uri": IMAGE}]


def loud(lenient: dict[str, Any], **input: Any) -> Request:
    return build("text_to_video", "loud", lenient, models=catalogue.of_files(OTHER_MODELS), **input)


def test_a_field_with_that_meaning_is_sent_and_priced() -> None:
    silent = loud({"generate_audio": False, "fps": 60, "references": [IMAGE]})
    assert silent.input == {
        "model": "loud", "duration": 8, "audio": False, "targetFramerate": 60, "references": REFERENCES,
    }  # fmt: skip
    assert silent.quoted_credits == 160
    assert silent.warnings == ()
    assert loud({"generate_audio": True}, audio=True).quoted_credits == 320
    assert [warning.feature for warning in loud({"aspect_ratio": "16:9", "resolution": "720p"}).warnings] == [
        "aspect_ratio", "resolution",
    ]  # fmt: skip


def test_a_value_that_it_does_not_take_is_refused_by_the_name_that_was_given() -> None:
    with pytest.raises(InvalidRequest) as caught:
        loud({"generate_audio": True, "fps": 12, "references": ["cat.png"]}, audio=False)
    assert {problem.pointer: problem.detail for problem in caught.value.problems} == {
        "/fps": "must be a whole number from 24 to 60; got 12",
        "/generate_audio": "contradicts `audio` of the input: leave one of them out",
        "/references/0/uri": "must start with https:// (Runway fetches the image from there), runway:// (an upload) "
        "or data:image/png;base64, (the image itself)",
    }


@pytest.mark.parametrize(
    ("input", "operation"),
    [
        ({"promptImage": IMAGE}, "image_to_video"),
        ({"promptText": "a cat"}, "text_to_video"),
        ({"promptText": "a cat", "promptImage": IMAGE, "model": "gen4.5"}, "image_to_video"),
        ({"promptText": "a cat", "model": "gen4.5"}, "text_to_video"),
        ({"promptText": "a cat", "model": "gen4_turbo"}, "image_to_video"),  # which says that it needs an image
        ({"promptText": "a cat", "model": "sora"}, "text_to_video"),
        ({"promptImage": IMAGE, "model": ["gen4.5"]}, "image_to_video"),
        ({}, "text_to_video"),
    ],
)
def test_the_operation_is_inferred_from_the_input(input: dict[str, Any], operation: str) -> None:
    assert catalogue.infer_operation(input) == operation


@pytest.mark.parametrize(
    ("input", "operation"),
    [
        ({"model": "act_two"}, "character_performance"),
        ({"model": "hailuo3", "promptText": "a cat"}, "text_to_video"),
        ({"model": "hailuo3", "promptText": "a cat", "promptImage": IMAGE}, "image_to_video"),
        ({"model": "hailuo3", "promptText": "a cat", "promptVideo": IMAGE}, "video_to_video"),
        ({"model": "seed_audio", "promptText": "hi", "voice": {}}, "text_to_speech"),
        ({"model": "recipes/product_ad"}, "recipes/product_ad"),
        ({"productImages": [], "version": "2026-06"}, "recipes/product_ad"),
        ({"mode": "auto", "prompt": "a cat", "version": "2026-06", "model": None}, "recipes/multi_shot_video"),
        ({"mode": "auto", "prompt": "a cat", "version": "2026-06"}, "recipes/multi_shot_video"),
    ],
)
def test_the_operation_follows_from_the_model_and_the_fields(input: dict[str, Any], operation: str) -> None:
    assert catalogue.infer_operation(input) == operation


def test_an_input_that_two_operations_take_must_name_one() -> None:
    with pytest.raises(InvalidRequest) as caught:
        catalogue.infer_operation({"model": "seed_audio", "promptText": "hi"})
    [problem] = caught.value.problems
    assert problem.pointer == "/operation"
    words = "is required: seed_audio can do sound_effect and text_to_speech with this input; say which"
    assert problem.detail == words


@pytest.mark.parametrize(
    ("input", "kind"),
    [
        ({}, "video/mp4"),
        ({"outputFormat": "hdr10"}, "video/mp4"),
        ({"outputFormat": "prores"}, "video/quicktime"),
        ({"outputFormat": "png_sequence"}, "application/zip"),
        ({"outputFormat": "of another year"}, "video/mp4"),
    ],
)
def test_the_media_type_of_a_format(input: dict[str, Any], kind: str) -> None:
    assert catalogue.media_type("text_to_video", "gen4.5", input) == kind
    assert catalogue.media_type("image_to_video", "gen4_turbo", input) == "video/mp4"
    assert catalogue.media_type(None, None, input) == "video/mp4"
