"""What requests cost: the prices that were measured at Runway, those that follow from published tables, and bounds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from service.errors import InvalidRequest
from service.runway import catalogue

IMAGE = "https://images.example.com/cat.png"
VIDEO = "https://videos.example.com/cat.mp4"
AUDIO = "https://sounds.example.com/cat.mp3"
TEXT = {"promptText": "a cat"}
FRAME = {"promptImage": IMAGE}
VOICE = {"voice": {"type": "runway-preset", "presetId": "Maya"}}
RECIPE: dict[str, Any] = {"version": "2026-06"}
BY_URI = {"uri": IMAGE}
ACTOR = {"type": "image", "uri": IMAGE}
SHOTS = {"providerSettings": {"multiPrompt": [{"prompt": "x", "duration": 3}] * 2}}


def build(operation: str, input: dict[str, Any], **bounds: Any) -> catalogue.Request:
    return catalogue.build_request(
        operation, input, default_model=None, default_ratio="1280:720", default_duration=5, **bounds
    )


def refusal(operation: str, input: dict[str, Any], **bounds: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        build(operation, input, **bounds)
    [problem] = caught.value.problems
    assert problem.pointer == "/max_credits"
    return problem.detail


# What Runway charged, or announced, for these requests.
MEASURED = [
    ("image_to_video", "seedance2_5", FRAME | {"duration": 4, "ratio": "834:1112"}, 120),
    ("text_to_video", "seedance2_5", TEXT | {"duration": 8, "ratio": "854:480"}, 160),
    ("image_to_video", "grok_imagine_1_5", FRAME | {"duration": 1, "resolution": "480p"}, 11),
    ("image_to_video", "grok_imagine_1_5", FRAME | {"duration": 1, "resolution": "720p"}, 17),
    ("image_to_video", "grok_imagine_1_5", FRAME | {"duration": 4, "resolution": "720p"}, 65),
]
# What follows from the tables that Runway and others have published.
COMPUTED = [
    ("image_to_video", "gen4_turbo", FRAME | {"duration": 10}, 50),
    ("text_to_video", "gen4.5", TEXT | {"duration": 5}, 60),
    ("text_to_video", "gen4.5", TEXT | {"duration": 5, "outputFormat": "prores"}, 85),
    ("text_to_video", "gen4.5", TEXT | {"duration": 10, "outputFormat": "hlg"}, 320),
    ("text_to_video", "veo3.1", TEXT | {"duration": 8}, 320),
    ("text_to_video", "veo3.1", TEXT | {"duration": 8, "audio": False}, 160),
    ("text_to_video", "veo3.1_fast", TEXT | {"duration": 8}, 120),
    ("text_to_video", "seedance2", TEXT | {"duration": 5, "ratio": "1280:720"}, 180),
    ("text_to_video", "seedance2", TEXT | {"duration": 5, "ratio": "1920:1080"}, 200),
    ("text_to_video", "seedance2", TEXT | {"duration": 5, "ratio": "3840:2160"}, 750),
    ("text_to_video", "seedance2_fast", TEXT | {"duration": 5}, 145),
    ("text_to_video", "seedance2_mini", TEXT | {"duration": 4}, 64),
    ("text_to_video", "happyhorse_1_0", TEXT | {"duration": 5, "ratio": "1920:1080"}, 150),
    ("text_to_video", "hailuo3", TEXT | {"duration": 5, "resolution": "768p", "references": [BY_URI] * 2}, 54),
    ("image_to_video", "gemini_omni_flash", FRAME | {"duration": 5}, 51),
    ("video_to_video", "gemini_omni_flash", TEXT | {"videoUri": VIDEO, "references": [BY_URI]}, 111),
    ("video_to_video", "aleph2", {"videoUri": VIDEO}, 840),
    ("character_performance", "act_two", {"character": ACTOR, "reference": {"type": "video", "uri": VIDEO}}, 150),
    ("text_to_image", "gen4_image", TEXT | {"ratio": "1920:1080"}, 8),
    ("text_to_image", "gen4_image_turbo", TEXT | {"ratio": "1280:720", "referenceImages": [BY_URI]}, 2),
    ("text_to_image", "gemini_image3_pro", TEXT | {"ratio": "4096:4096"}, 40),
    ("text_to_image", "gpt_image_2", TEXT | {"ratio": "auto", "outputCount": 2}, 82),
    ("text_to_image", "ideogram_4_0", TEXT | {"quality": "high"}, 11),
    ("text_to_speech", "eleven_v3", {"promptText": "x" * 501} | VOICE, 11),
    ("sound_effect", "eleven_text_to_sound_v2", TEXT | {"duration": 10}, 10),
    ("voice_isolation", "eleven_voice_isolation", {"audioUri": AUDIO}, 600),
    ("recipes/product_ad", None, RECIPE | {"productImages": [BY_URI], "duration": 4, "ratio": "1280:720"}, 200),
    ("recipes/product_ad", None, RECIPE | {"productImages": [BY_URI], "duration": 4, "ratio": "1920:1080"}, 216),
    ("recipes/multi_shot_video", None, RECIPE | {"mode": "auto", "prompt": "a cat", "duration": 10}, 130),
    ("recipes/ad_localization", None, RECIPE | {"referenceImage": BY_URI, "targetLanguage": "de"}, 21),
]  # fmt: skip


def named(case: Any) -> str:
    """What a case is called, beside its place in the list: its endpoint, its model, its credits."""
    return "" if isinstance(case, dict) else str(case or "")


@pytest.mark.parametrize(("operation", "model", "input", "credits"), [*MEASURED, *COMPUTED], ids=named)
def test_the_prices_that_are_known(operation: str, model: str | None, input: dict[str, Any], credits: int) -> None:
    named = {"model": model} if model else {}
    assert build(operation, named | input).quoted_credits == credits


# Of what a request leaves open, the dearest that it may come to.
OPEN = [
    ("text_to_video", "seedance2", TEXT | {"duration": "auto", "ratio": "1280:720"}, 15 * 36, "auto is the longest"),
    ("text_to_video", "seedance2", TEXT | {"duration": 5}, 5 * 150, "no ratio is the largest"),
    ("image_to_video", "hailuo3", FRAME | TEXT | {"duration": 5}, 5 * 15 + 2, "no resolution is the finest"),
    ("image_to_video", "kling3.0_pro", FRAME | {"duration": 10}, 170, "no word of sound is with sound"),
    ("text_to_image", "gpt_image_2", TEXT | {"ratio": "auto"}, 41, "no number of images is one, which is sent"),
    ("text_to_video", "hailuo3", TEXT | {"duration": 5, "resolution": "768P"}, 50, "as another spelling"),
    ("text_to_image", "seedream5_pro", TEXT | {"ratio": "auto_1k"}, 9, "a ratio in words has no band"),
    ("text_to_video", "seedance2_5", {"draftTaskId": "x"}, 30 * 68, "nothing is known of a draft"),
    ("text_to_video", "kling3.0_4k", TEXT | SHOTS | {"ratio": "3840:2160"}, 6 * 43, "shots count, not the duration"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "model", "input", "credits", "_why"), OPEN)
def test_what_is_not_known_is_as_dear_as_it_may_be(
    operation: str, model: str, input: dict[str, Any], credits: int, _why: str
) -> None:
    request = build(operation, {"model": model} | input)
    assert request.quoted_credits == credits
    assert request.input.get("outputCount", 1) == 1


def test_a_default_that_breaks_a_rule_is_not_filled_in() -> None:
    assert build("text_to_video", {"model": "seedance2_5", "draftTaskId": "x"}).input == {
        "model": "seedance2_5", "draftTaskId": "x",
    }  # fmt: skip


def test_a_price_is_rounded_up_and_has_a_least() -> None:
    price = {"add": [{"rate": 0.3, "times": "duration"}, {"rate": 0.1}], "minimum": 2}
    entry = {"properties": {"duration": {"enum": [4, 8]}}, "required": ["duration"], "price": price}
    own = catalogue.of_files({"op": {"output": "audio/*", "models": {"m": entry}}})
    quoted = [build("op", {"duration": seconds}, catalogue=own).quoted_credits for seconds in (4, 8)]
    assert quoted == [2, 3]  # 1.3 and 2.5


@pytest.mark.parametrize(("by", "value"), [("style", "new"), ("style MP", "9000:9000"), ("style MP", "new")])
def test_a_value_that_the_table_does_not_have_is_the_dearest(by: str, value: str) -> None:
    entry = {
        "properties": {"style": {"type": "string"}},
        "required": ["style"],
        "price": {"add": [{"rate": {"by": by, "1": 3, "2": 8}}]},
    }
    own = catalogue.of_files({"op": {"output": "image/*", "models": {"m": entry}}})
    assert build("op", {"style": value}, catalogue=own).quoted_credits == 8


HDR = ("video_to_hdr", {"videoUri": VIDEO})
TURBO = ("image_to_video", FRAME | {"model": "gen4_turbo"})


def test_a_model_without_a_price_needs_a_bound_which_is_its_quote() -> None:
    words = refusal(*HDR)
    assert words.startswith("is required: what ruby in video_to_hdr costs is not known")
    assert all(way in words for way in ("max_credits in the request", "a column for it", "MAX_CREDITS_PER_VIDEO"))
    assert build(*HDR, max_credits=Decimal(300)).quoted_credits == 300
    assert build(*HDR, allowed_credits={"*": Decimal(200)}).quoted_credits == 200
    both = build(*HDR, max_credits=Decimal(100), allowed_credits={"*": Decimal(200)})
    assert both.quoted_credits == 100


def test_so_does_one_whose_price_this_request_leaves_without_an_end() -> None:
    sound = ("text_to_speech", TEXT | {"model": "seed_audio"})
    assert "is not known" in refusal(*sound)
    assert build(*sound, max_credits=Decimal(40)).quoted_credits == 40


def test_a_bound_limits_what_has_a_price() -> None:
    assert build(*TURBO, max_credits=Decimal(25)).quoted_credits == 25
    assert refusal(*TURBO, max_credits=Decimal("24.5")) == (
        "this may cost 25 credits, and max_credits is 24.5: ask for less, or raise it"
    )
    assert refusal(*TURBO, allowed_credits={"image_to_video/*": Decimal(20)}) == (
        "this may cost 25 credits, and MAX_CREDITS_PER_VIDEO is 20: ask for less, or raise it"
    )


def test_a_request_cannot_bid_more_than_the_operator_allows() -> None:
    assert "MAX_CREDITS_PER_VIDEO is 200" in refusal(
        *HDR, max_credits=Decimal(300), allowed_credits={"*": Decimal(200)}
    )


@pytest.mark.parametrize(
    ("patterns", "credits"),
    [
        ("video_to_hdr/ruby=1,*=2", 1),
        ("*=2,video_to_hdr/ruby=1", 2),
        ("video_to_hdr/*=3", 3),
        ("*/ruby=4", 4),
        ("recipes/*=5,*=6", 6),
    ],
)
def test_of_several_patterns_the_first_that_fits_counts(patterns: str, credits: int) -> None:
    allowed = {name: Decimal(bound) for name, bound in (part.split("=") for part in patterns.split(","))}
    assert build(*HDR, allowed_credits=allowed).quoted_credits == credits


def test_a_workflow_is_bounded_by_its_name_alone() -> None:
    request = build("workflows/0a1b", {}, allowed_credits={"workflows": Decimal(90)})
    assert (request.operation, request.model) == ("workflows/0a1b", "workflows")
    assert request.quoted_credits == 90
