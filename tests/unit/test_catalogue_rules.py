"""What a check says of choices, of media and of rules between fields; and what the published schema makes of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest

from service.errors import InvalidRequest
from service.runway import catalogue
from service.runway.catalogue import Request

IMAGE = "https://images.example.com/cat.png"
VIDEO = "https://videos.example.com/cat.mp4"
ITEM = {"uri": IMAGE}
FIRST, LAST = ITEM | {"position": "first"}, ITEM | {"position": "last"}
TEXT = {"promptText": "a cat"}


def build(operation: str, input: dict[str, Any]) -> Request:
    return catalogue.build_request(
        operation, input, default_model=None, default_ratio="1280:720", default_duration=5, max_credits=Decimal(10**6)
    )


def problems(operation: str, input: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        build(operation, input)
    return {problem.pointer: problem.detail for problem in caught.value.problems}


ACT = ("character_performance", None)
AVATAR = ("avatar_videos", None)
ALEPH = ("video_to_video", "aleph2")
WORKFLOW = ("workflows/0a1b", None)
OUTPUT = {"type": "primitive", "value": 1}


@pytest.mark.parametrize(
    ("pair", "input", "said"),
    [
        # A choice of objects goes by its tag, else by a key that only one of them requires.
        (ACT, {"character": {}, "reference": {"type": "video", "uri": VIDEO}},
         {"/input/character/type": "is missing: give one of image, video"}),
        (ACT, {"character": {"type": "film"}, "reference": {"type": "video", "uri": VIDEO}},
         {"/input/character/type": "must be one of image, video; got 'film'"}),
        (ACT, {"character": {"type": "video", "uri": 5}, "reference": {"type": "video", "uri": VIDEO}},
         {"/input/character/uri": "must be the URI of a video; got 5"}),
        (AVATAR, {"avatar": {"type": "custom", "presetId": "x"}, "speech": {"type": "audio", "audio": VIDEO}},
         {"/input/avatar/avatarId": "is missing: give a text",
          "/input/avatar/presetId": "is not a field of this object: remove it. It takes avatarId, type"}),
        (ALEPH, {"videoUri": VIDEO, "keyframes": [ITEM]},
         {"/input/keyframes/0": "needs seconds or at: give one of them"}),
        (ALEPH, {"videoUri": VIDEO, "keyframes": [ITEM | {"at": 2}]},
         {"/input/keyframes/0/at": "must be a number from 0 to 1; got 2"}),
        (WORKFLOW, {"nodeOutputs": {"a/b": {"out": OUTPUT | {"value": []}}}},
         {"/input/nodeOutputs/a~1b/out/value": "must be a text, or a number, or one of true, false; "
          "got a list of length 0"}),
        # A list, its length and its items.
        (("image_to_video", "veo3.1"), {"promptImage": []},
         {"/input/promptImage": 'must be a list of at most 2 {uri, position: "first" or "last"}; '
          "got a list of length 0"}),
        (("text_to_image", "gen4_image_turbo"), TEXT | {"referenceImages": [ITEM | {"tag": "1a"}]},
         {"/input/referenceImages/0/tag": "must be a text of 3 to 16 characters (UTF-16 code units) that matches "
          "^[A-Za-z][A-Za-z0-9_]*$; got 2 of them"}),
        # Media that are missing, or of another kind.
        (("video_to_hdr", None), {},
         {"/input/videoUri": "Add a video: paste a link or choose a file. (API: `/input/videoUri` is required: "
          "an https:// URL or a data: URI.)"}),
        (("voice_isolation", None), {"audioUri": "data:image/png;base64,iVBORw0KGgo="},
         {"/input/audioUri": "must start with data:audio/…;base64,: Runway takes no other data URI here"}),
        (("video_to_hdr", None), {"videoUri": "cat.mp4"},
         {"/input/videoUri": "must start with https:// (Runway fetches the video from there), runway:// (an upload) or "
          "data:video/mp4;base64, (the video itself)"}),
        # Numbers without both ends.
        (("voice_dubbing", None), {"audioUri": VIDEO, "targetLang": "en", "numSpeakers": 0},
         {"/input/numSpeakers": "must be a whole number above 0; got 0"}),
        (("text_to_image", "muse_image"), TEXT | {"ratio": "auto", "outputCount": 0},
         {"/input/outputCount": "must be a whole number of at least 1; got 0"}),
        (("video_to_audio", None), {"videoUri": VIDEO, "duration": "5"},
         {"/input/duration": "must be a number; got '5'"}),
    ],
)  # fmt: skip
def test_what_is_said_of_a_field(pair: tuple[str, str | None], input: dict[str, Any], said: dict[str, str]) -> None:
    operation, model = pair
    assert problems(operation, input | ({"model": model} if model else {})) == said


KLING = ("text_to_video", "kling3.0_pro")
SEEDANCE = ("video_to_video", "seedance2_5")
HUMANS = [ITEM | {"subject": "human"}] * 6


@pytest.mark.parametrize(
    ("pair", "input", "pointer", "said", "is_published"),
    [
        (("image_to_video", "veo3.1"), {"promptImage": [FIRST, FIRST]}, "promptImage",
         "has the same position twice: give each item its own", True),
        (("image_to_video", "veo3.1"), {"promptImage": [LAST]}, "promptImage",
         "needs an item whose position is first: add it", True),
        (("image_to_video", "hailuo3"), TEXT | {"promptImage": [FIRST, ITEM]}, "promptImage",
         "has position in some items only: give it in all of them, or in none", True),
        (("text_to_image", "gpt_image_2"),
         TEXT | {"ratio": "auto", "referenceImages": [ITEM | {"tag": "cat"}, ITEM, ITEM | {"tag": "cat"}]},
         "referenceImages", "has the same tag twice: give each item its own", False),
        (("text_to_image", "gemini_image3_pro"), TEXT | {"ratio": "1024:1024", "referenceImages": HUMANS},
         "referenceImages", "has 6 items whose subject is human: at most 5 go", True),
        (("text_to_image", "gemini_image3_pro"), TEXT | {"ratio": "1024:1024", "referenceImages": [ITEM] * 10},
         "referenceImages", "has 10 items whose subject is object: at most 9 go", True),
        (KLING, {"ratio": "1920:1080", "providerSettings": {"multiPrompt": [{"prompt": "x", "duration": 2}]}},
         "providerSettings/multiPrompt", "has 2 in all as duration: it must add up to 3 to 15", False),
        (KLING, {"ratio": "1920:1080", "providerSettings": {"shotType": "intelligence"}}, "promptText",
         "is missing where providerSettings.shotType is intelligence: give a text", True),
        (("recipes/multi_shot_video", None),
         {"mode": "custom", "version": "2026-06", "shots": [{"prompt": "shot", "duration": 3}] * 3},
         "shots", "has 9 in all as duration: it must add up to duration, 10", False),
        (("text_to_video", "hailuo3"), TEXT | {"ratio": "adaptive"}, "ratio",
         "needs references or referenceVideos where ratio is adaptive: add one of them", True),
        (SEEDANCE, {"promptVideo": VIDEO, "promptText": "x", "mode": "extend", "ratio": "1280:720"}, "ratio",
         "does not go where mode is extend: leave it out", True),
        (SEEDANCE, {"promptVideo": VIDEO, "promptText": "x", "mode": "edit", "duration": 5}, "duration",
         "must be one of auto where mode is edit; got 5", True),
        (SEEDANCE, {"promptVideo": VIDEO, "draft": True, "outputFormat": "mov"}, "outputFormat",
         "must be one of mp4 where draft is true; got 'mov'", True),
        (("image_to_video", "wan3"), TEXT | {"promptImage": [FIRST], "ratio": "1280:720"}, "promptImage",
         "goes only with ratio auto_480p or auto_720p or auto_1080p: set that, or leave promptImage.position out",
         True),
        (("image_to_video", "kling_4"), TEXT | {"promptImage": [FIRST, LAST], "references": [ITEM] * 9}, "promptImage",
         "promptImage and references have 11 items: at most 10 go", False),
    ],
)  # fmt: skip
def test_what_is_said_of_a_rule(
    pair: tuple[str, str | None], input: dict[str, Any], pointer: str, said: str, is_published: bool
) -> None:
    operation, model = pair
    body = ({"model": model} if model else {}) | input
    assert problems(operation, body) == {f"/input/{pointer}": said}
    schema = catalogue.json_schema(operation, model or operation)
    assert jsonschema.Draft202012Validator(schema).is_valid(body) is not is_published
    if not is_published:
        assert "description" in schema or any("description" in form for form in schema["oneOf"])


def test_of_a_text_the_published_schema_counts_code_points() -> None:
    body = {"model": "happyhorse_1_0", "promptText": "😀"}
    assert build("text_to_video", body).input["promptText"] == "😀"
    schema = catalogue.json_schema("text_to_video", "happyhorse_1_0")
    assert jsonschema.Draft202012Validator(schema).is_valid(body)
    assert schema["properties"]["promptText"]["minLength"] == 1


def test_what_cannot_be_stored_is_refused_wherever_it_stands() -> None:
    assert problems("workflows/0a1b", {"nodeOutputs": {"a": {"b\0": OUTPUT | {"value": "x\0"}}}}) == {
        "/input/nodeOutputs/a/b\0/value": "contains a NUL character or half of a surrogate pair: remove it",
        "/input/nodeOutputs/a/b\0": "has a name that cannot be stored: choose another",
    }


def test_whole_numbers_may_be_written_as_json_writes_them() -> None:
    body = build("text_to_video", {"model": "gen4.5", "promptText": "a cat", "duration": 5.0, "seed": 7.0}).input
    assert (body["duration"], body["seed"]) == (5, 7)
    assert {type(body["duration"]), type(body["seed"])} == {int}
