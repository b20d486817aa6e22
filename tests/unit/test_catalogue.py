"""The catalogue: what Runway takes, checked against its own SDK's types, and what that costs."""

from __future__ import annotations

import json
import re
import typing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from runwayml.types import image_to_video_create_params as image_params
from runwayml.types import text_to_video_create_params as text_params

from service.errors import InvalidRequest
from service.runway import catalogue
from service.runway.catalogue import Catalogue, Request

IMAGE = "https://images.example.com/cat.png"
DATA_HEAD = "data:image/png;base64,"
SIX_RATIOS = "1280:720, 720:1280, 1104:832, 960:960, 832:1104, 1584:672"
GEN4_5_FIELDS = "promptText, ratio, duration, contentModeration, outputFormat, proresProfile, seed"
SDK_TYPES = [
    ("image_to_video", "gen4_turbo", image_params.Gen4Turbo),
    ("image_to_video", "gen4.5", image_params.Gen4_5),
    ("text_to_video", "gen4.5", text_params.Gen4_5),
]


def build(
    operation: str,
    input: Any,
    *,
    default_ratio: str = "1280:720",
    default_duration: int = 5,
    models: Catalogue | None = None,
) -> Request:
    return catalogue.build_request(
        operation,
        input,
        default_model="gen4.5" if operation == "text_to_video" else "gen4_turbo",
        default_ratio=default_ratio,
        default_duration=default_duration,
        catalogue=models,
    )


def image_to_video(**input: Any) -> Request:
    return build("image_to_video", {"promptImage": IMAGE, **input})


def problems(operation: str, input: Any, models: Catalogue | None = None) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        build(operation, input, models=models)
    json.dumps([vars(problem) for problem in caught.value.problems], ensure_ascii=False).encode()
    return {problem.pointer: problem.detail for problem in caught.value.problems}


def test_the_packaged_catalogue_is_whole() -> None:
    pairs = catalogue.pairs()
    assert len(catalogue.operations()) == 26
    assert len(pairs) == 111
    assert sum(pair.price is not None for pair in pairs) == 73


@pytest.mark.parametrize(("operation", "model", "sdk"), SDK_TYPES)
def test_takes_what_the_sdk_types_say(operation: str, model: str, sdk: Any) -> None:
    pair = catalogue.current().model(operation, model)
    assert pair is not None
    fields = pair.fields
    hints = typing.get_type_hints(sdk, include_extras=True)
    names = {_alias(name, str(raw)): name for name, raw in sdk.__annotations__.items()}
    required = {alias for alias, name in names.items() if "Required[" in str(sdk.__annotations__[name])}
    assert {"model", *fields} == names.keys()
    assert required - {"model"} == {*pair.schema["required"], *pair.filled}
    for name, field in fields.items():
        if "enum" in field:
            assert set(field["enum"]) == set(_literals(hints[names[name]]))


def _alias(name: str, annotation: str) -> str:
    found = re.search(r"alias=.?[\"'](\w+)", annotation)
    return found[1] if found else name


def _literals(hint: Any) -> tuple[Any, ...]:
    inner = typing.get_args(hint)
    return inner if typing.get_origin(hint) is typing.Literal else _literals(inner[0])


def test_completes_and_prices_the_smallest_request() -> None:
    completed = {"ratio": "1280:720", "duration": 5}
    assert build("image_to_video", {"promptImage": IMAGE}) == Request(
        operation="image_to_video",
        model="gen4_turbo",
        input={"model": "gen4_turbo", "promptImage": IMAGE, **completed},
        quoted_credits=Decimal(25),
    )
    words_alone = build("text_to_video", {"promptText": "a cat"})
    assert words_alone.input == {"model": "gen4.5", "promptText": "a cat", **completed, "outputFormat": "mp4"}


def test_leaves_what_the_caller_gave_as_it_is() -> None:
    given = {
        "model": "gen4.5",
        "promptImage": [{"uri": IMAGE, "position": "first"}],
        "promptText": "a cat",
        "ratio": "1584:672",
        "duration": 10,
        "seed": 0,
        "contentModeration": {"publicFigureThreshold": "low"},
        "outputFormat": "hdr_prores",
        "proresProfile": "422 HQ",
    }
    assert build("image_to_video", given).input == given


@pytest.mark.parametrize(
    ("input", "credits"),
    [
        ({"duration": 2}, 10),
        ({"duration": 10}, 50),
        ({"model": "gen4.5"}, 60),
        ({"model": "gen4.5", "outputFormat": "mp4"}, 60),
        ({"model": "gen4.5", "outputFormat": "prores"}, 85),
        ({"model": "gen4.5", "outputFormat": "hlg", "duration": 10}, 320),
    ],
)
def test_quotes_the_most_that_it_can_cost(input: dict[str, Any], credits: int) -> None:
    assert image_to_video(promptText="a cat", **input).quoted_credits == credits


def test_a_default_gives_way_to_the_model_but_a_wish_does_not() -> None:
    misfit = build("text_to_video", {"promptText": "x"}, default_ratio="960:960", default_duration=11)
    assert (misfit.input["ratio"], misfit.input["duration"]) == ("1280:720", 5)
    fitting = build("image_to_video", {"promptImage": IMAGE}, default_ratio="960:960", default_duration=10)
    assert (fitting.input["ratio"], fitting.input["duration"]) == ("960:960", 10)
    assert problems("text_to_video", {"promptText": "x", "ratio": "960:960", "duration": 11}) == {
        "/input/ratio": "must be one of 1280:720, 720:1280; got '960:960'",
        "/input/duration": "must be a whole number from 2 to 10; got 11",
    }


def test_reports_everything_at_once_with_advice() -> None:
    bad = {
        "model": "gen4.5",
        "ratio": "16:9",
        "duration": "5",
        "seed": None,
        "contentModeration": {"x": 1},
        "prompt_text": "a cat",
    }
    assert problems("image_to_video", bad) == {
        "/input/promptImage": (
            "Add an image: paste a link or choose a file. (API: `/input/promptImage` is required: an https:// URL, "
            "a data: URI, or a list of one {uri, position}.)"
        ),
        "/input/promptText": "is missing: give a text of 1 to 1000 characters (UTF-16 code units)",
        "/input/ratio": f"must be one of {SIX_RATIOS}; got '16:9'",
        "/input/duration": "must be a whole number from 2 to 10; got '5'",
        "/input/seed": "must be a whole number from 0 to 4294967295; got null: "
        "leave the field out if there is no value",
        "/input/contentModeration/x": "is not a field of this object: remove it. It takes publicFigureThreshold",
        "/input/prompt_text": "is not a field of gen4.5 in image_to_video: did you mean promptText? "
        f"It takes promptImage, {GEN4_5_FIELDS}",
    }


@pytest.mark.parametrize("operation", ["image_to_film", "shapes", "recipes", "", None, ["image_to_video"]])
def test_an_unknown_operation_lists_the_known(operation: Any) -> None:
    (found,) = problems(operation, {}).items()
    assert found[0] == "/operation"
    assert found[1].startswith("must be one of avatar_videos, character_performance, generate/audio, ")


@pytest.mark.parametrize("model", ["gen4_turbo", "sora", None, {}])
def test_an_unknown_model_lists_the_known(model: Any) -> None:
    (found,) = problems("text_to_video", {"model": model}).items()
    assert found[0] == "/input/model"
    assert found[1].startswith("must be one of gen4.5, veo3.1, ")
    assert " for text_to_video; got " in found[1]


@pytest.mark.parametrize("input", [None, [], "a cat"])
def test_the_input_is_an_object(input: Any) -> None:
    assert problems("image_to_video", input)["/input"].startswith("must be an object")


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("promptText", ["x", "x" * 1000, "😀" * 500], ["", "x" * 1001, "😀" * 500 + "x", 5, "a\0", "\ud83d"]),
        ("duration", [2, 10], [1, 11, 5.5, True, "5", None, [], 10**30]),
        ("seed", [0, 4294967295], [-1, 4294967296, 0.5, False]),
        ("ratio", SIX_RATIOS.split(", "), ["16:9", "1280x720", 5, True, [], {}]),
        (
            "contentModeration",
            [{}, {"publicFigureThreshold": "auto"}],
            ["auto", None, [], {"publicFigureThreshold": "high"}],
        ),
        ("promptImage", [IMAGE, [{"uri": IMAGE, "position": "first"}]], [None, 5, {}, [], [IMAGE]]),
        (
            "promptImage",
            [],
            [
                [{"uri": IMAGE}],
                [{"position": "first"}],
                [{"uri": 5, "position": "first"}],
                [{"uri": IMAGE, "position": "last"}],
                [{"uri": IMAGE, "position": ["first"]}],
                [{"uri": IMAGE, "position": "first", "size": 1}],
                [{"uri": IMAGE, "position": "first"}] * 2,
            ],
        ),
    ],
)
def test_stands_on_both_sides_of_every_limit(field: str, good: list[object], bad: list[object]) -> None:
    for value in good:
        assert image_to_video(**{field: value}).input[field] == value
    for value in bad:
        found = problems("image_to_video", {"promptImage": IMAGE, field: value})
        assert all(pointer.startswith(f"/input/{field}") for pointer in found)


@pytest.mark.parametrize(
    "uri",
    [
        "https://a.io/",
        "https://cdn.example.com:8443/a%20b.png?signature=x#y",
        "https://bücher.example/katze.png",
        "https://sub-domain.my_bucket.example.com./cat",
        "https://1.2.3.4.example/cat.png",
        "https://images.example.com/".ljust(2048, "a"),
        "runway://ab/c",
        "runway://".ljust(5000, "a"),
        f"{DATA_HEAD}iVBORw0KGgo=",
        "data:image/jpg;base64,/9j/4A",
        "data:image/webp;base64,UklGRugDAABXRUJQVlA4IA==",
        f"{DATA_HEAD}/9j/".ljust(5_242_880, "a"),  # Runway reads what it is, whatever it is called
    ],
)
def test_takes_the_uris_that_runway_takes(uri: str) -> None:

    assert image_to_video(promptImage=uri).input["promptImage"] == uri


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("", "must start with https://"),
        ("cat.png", "must start with https://"),
        ("http://images.example.com/cat.png", "must start with https://"),
        ("HTTPS://images.example.com/cat.png", "must start with https://"),
        ("https://images.example.com/a cat.png", "contains spaces"),
        ("https://images.example.com/\ncat.png", "contains spaces"),
        ("https://images.example.com/\ud800", "contains spaces"),
        ("https://a.io", "must be 13 to 2048 characters long; got 12"),
        ("https://images.example.com/".ljust(2049, "a"), "must be 13 to 2048 characters long; got 2049"),
        ("https://127.0.0.1/cat.png", "must name a domain"),
        ("https://[2001:db8::1]/cat.png", "must name a domain"),
        ("https://2130706433/cat.png", "must name a domain"),
        ("https://127.0x1/cat.png", "must name a domain"),
        ("https://127.1./cat.png", "must name a domain"),
        ("https://１２７.０.０.１/cat.png", "must name a domain"),  # noqa: RUF001  # full-width digits are the case
        ("https://localhost/cat.png", "must name a public domain"),
        ("https:///images/cat.png", "must name a public domain"),
        ("https://images..example.com/", "must name a public domain"),
        ("https://-images.example.com/", "must name a public domain"),
        ("https://images.example.com:port/", "is not a URL"),
        ("https://images.example.com:99999/", "is not a URL"),
        ("https://[images.example.com/", "is not a URL"),
        ("runway://abc", "must be 13 to 5000 characters long; got 12"),
        ("runway://".ljust(5001, "a"), "must be 13 to 5000 characters long; got 5001"),
        (DATA_HEAD, "is not valid base64"),
        (f"{DATA_HEAD}aGk_", "is not valid base64"),
        (f"{DATA_HEAD}aG k", "is not valid base64"),
        (f"{DATA_HEAD}aGk=", "is no JPEG, PNG or WebP image"),
        (f"{DATA_HEAD}UklGRugDAABXQVZFVlA4IA==", "is no JPEG, PNG or WebP image"),
        ("data:image/gif;base64,aGk=", "must start with data:image/jpeg"),
        ("data:image/png,hi", "must start with data:image/jpeg"),
        (DATA_HEAD.ljust(5_242_881, "a"), "is a data URI of 5242881 characters, and Runway takes 5242880"),
    ],
)
def test_refuses_the_uris_that_runway_refuses(uri: str, complaint: str) -> None:
    found = problems("image_to_video", {"promptImage": uri})
    assert found["/input/promptImage"].startswith(complaint)


def test_the_prores_profile_goes_only_with_its_formats() -> None:
    base = {"model": "gen4.5", "promptText": "x", "proresProfile": "422 LT"}
    assert image_to_video(**base, outputFormat="prores").quoted_credits == 85
    alone = "goes only with outputFormat prores or hdr_prores: set that, or leave proresProfile out"
    fitting = "must be one of 422, 422 HQ, 4444 where outputFormat is hdr_prores; got '422 LT'"
    with_image = {"promptImage": IMAGE, **base}
    assert problems("image_to_video", with_image) == {"/input/proresProfile": alone}
    assert problems("image_to_video", {**with_image, "outputFormat": "mp4"}) == {"/input/proresProfile": alone}
    assert problems("image_to_video", {**with_image, "outputFormat": "hdr_prores"}) == {"/input/proresProfile": fitting}


def test_a_hostile_body_gets_a_short_answer() -> None:
    strangers = {f"{'x' * 1000}{number}": number for number in range(5000)}
    found = problems("image_to_video", {"promptImage": IMAGE, "ratio": "y" * 100_000, **strangers})
    assert found["/input"] == "has 4990 more fields that gen4_turbo in image_to_video does not take: remove them"
    assert found["/input/ratio"].endswith(f"got '{'y' * 39}…")
    assert len(json.dumps(found)) < 5000
    odd = problems("image_to_video", {"promptImage": IMAGE, "a/b~\udc00": 1})
    assert odd.keys() == {"/input/a~1b~0\\udc00"}


@pytest.mark.parametrize(("operation", "model", "_sdk"), SDK_TYPES)
def test_the_schema_has_the_fields_and_no_others(operation: str, model: str, _sdk: Any) -> None:
    schema = catalogue.json_schema(operation, model)
    pair = catalogue.current().model(operation, model)
    assert pair is not None
    assert schema["properties"].keys() == {"model", *pair.fields}
    assert schema["properties"]["model"] == {"const": model}
    assert schema["additionalProperties"] is False
    with pytest.raises(InvalidRequest):
        catalogue.json_schema(operation, "sora")


@pytest.mark.parametrize(
    ("input", "valid"),
    [
        ({}, True),
        ({"promptImage": None}, False),
        ({"promptImage": [{"uri": IMAGE, "position": "first"}]}, True),
        ({"promptImage": [{"uri": IMAGE, "position": "last"}]}, False),
        ({"promptImage": f"{DATA_HEAD}iVBORw0KGgo="}, True),
        ({"promptImage": "http://images.example.com"}, False),
        ({"duration": 10, "seed": 4294967295}, True),
        ({"duration": 11}, False),
        ({"duration": True}, False),
        ({"outputFormat": "prores", "proresProfile": "422 LT"}, True),
        ({"outputFormat": "hdr_prores", "proresProfile": "422 LT"}, False),
        ({"proresProfile": "422"}, False),
        ({"contentModeration": {"publicFigureThreshold": "low"}}, True),
        ({"contentModeration": {"x": 1}}, False),
        ({"callback_url": "x"}, False),
    ],
)
def test_the_schema_and_the_check_agree(input: dict[str, Any], valid: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    body = {"model": "gen4.5", "promptImage": IMAGE, "promptText": "a cat", **input}
    schema = catalogue.json_schema("image_to_video", "gen4.5")
    assert jsonschema.Draft202012Validator(schema).is_valid(body) is valid
    if valid:
        assert build("image_to_video", body).input.items() >= body.items()
    else:
        assert problems("image_to_video", body)


SENT_AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
ENDS_LATE, ENDS_EARLY = "20261128T110001Z", "20261128T110000Z"


@pytest.mark.parametrize(
    ("query", "refused"),
    [
        (f"X-Amz-Date={ENDS_EARLY}&X-Amz-Expires=3600", True),
        (f"X-Amz-Date={ENDS_LATE}&X-Amz-Expires=3600", False),
        (f"x-amz-expires=3600&x-amz-date={ENDS_EARLY}", True),
        (f"X-Goog-Date={ENDS_EARLY}&X-Goog-Expires=3600", True),
        (f"X-Goog-Date={ENDS_EARLY}&X-Goog-Expires=3601", False),
        (f"Expires={int(SENT_AT.timestamp())}&Signature=x&Key-Pair-Id=y", True),
        (f"Expires={int(SENT_AT.timestamp()) + 1}&Signature=x", False),
        (f"Expires={int(SENT_AT.timestamp())}", False),  # without a signature it may mean anything
        ("se=2026-11-28T12:00:00Z&sig=x", True),
        ("se=2026-11-28T12:00:01Z&sig=x", False),
        (f"X-Amz-Date={ENDS_EARLY}", False),
        ("X-Amz-Date=yesterday&X-Amz-Expires=3600", False),
        (f"X-Amz-Date={ENDS_EARLY}&X-Amz-Expires={10**30}", False),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_an_image_whose_signature_ends_before_it_is_sent(query: str, refused: bool, listed: bool) -> None:
    uri = f"https://bucket.example.com/a.jpg?{query}"
    image = [{"uri": uri, "position": "first"}] if listed else uri
    pointer = "/input/promptImage/0/uri" if listed else "/input/promptImage"

    def at(sent_at: datetime | None) -> Request:
        return catalogue.build_request(
            "image_to_video", {"promptImage": image}, default_model="gen4_turbo", default_ratio="1280:720",
            default_duration=5, sent_at=sent_at,
        )  # fmt: skip

    assert at(None).input["promptImage"] == image
    if not refused:
        assert at(SENT_AT).input["promptImage"] == image
        return
    with pytest.raises(InvalidRequest) as caught:
        at(SENT_AT)
    [problem] = caught.value.problems
    assert problem.pointer == pointer
    assert problem.detail.startswith("its signature ends at 2026-11-28 12:00:00 UTC, before the video is sent: ")
