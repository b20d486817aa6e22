"""CATALOGUE_FILE: a model works on the day it appears, a broken file ends the start, and doctor says what changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.context import from_environment
from service.doctor.known_models import checks
from service.errors import BadSettings
from service.runway import catalogue
from service.web.page import studio_form
from tests.invoking import printed, taxiway
from tests.world import settings

pytestmark = pytest.mark.anyio

GEN6 = {
    "properties": {
        "promptText": {"$ref": "#/$defs/text_of_1000"},
        "ratio": {"$ref": "#/$defs/sizes_of_gen4", "default": "1280:720"},
        "duration": {"type": "integer", "minimum": 2, "maximum": 20, "default": 5},
    },
    "required": ["promptText", "ratio"],
    "price": {"add": [{"rate": 9, "times": "duration"}]},
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where CATALOGUE_FILE is; afterwards, the packaged catalogue counts again."""
    path = tmp_path / "catalogue.json"
    monkeypatch.setenv("CATALOGUE_FILE", str(path))
    yield path
    catalogue.use(None)


def write(path: Path, models: dict[str, Any]) -> None:
    path.write_text(json.dumps({"text_to_video": {"models": models}}))


async def test_a_new_model_is_quoted_published_and_shown(file: Path) -> None:
    write(file, {"gen6": GEN6, "wan3": None})
    [quote] = printed(await taxiway(None, "enqueue", "--dry-run", "--prompt", "a boat", "--model", "gen6"))
    assert (quote["operation"], quote["model"], quote["quoted_credits"]) == ("text_to_video", "gen6", 45)
    assert ("text_to_video", "gen6") in studio_form.kinds()["Video: text to video"]
    [made] = [one for one in checks(settings("", catalogue_file=str(file))) if one.name == "catalogue"]
    assert made.message.endswith("CATALOGUE_FILE adds text_to_video/gen6 and removes text_to_video/wan3")


@pytest.mark.parametrize(
    ("models", "why"),
    [
        ({"gen6": GEN6 | {"prise": 1}}, "text_to_video/models/gen6/prise is not known"),
        (
            {"gen4.5": {"price": {"add": [{"rate": 0}]}}},
            "text_to_video/models/gen4.5/price/add/0/rate must be a number",
        ),
    ],
)
def test_a_broken_file_ends_the_start_with_one_line(file: Path, models: dict[str, Any], why: str) -> None:
    write(file, models)
    with pytest.raises(BadSettings) as caught:
        from_environment()
    [complaint] = caught.value.complaints
    assert complaint.startswith(f"CATALOGUE_FILE {file}: {why}")
    assert complaint.endswith(": correct that, or remove CATALOGUE_FILE")


def test_a_file_that_is_not_there_ends_the_start(file: Path) -> None:
    with pytest.raises(BadSettings, match=r"CATALOGUE_FILE .*catalogue\.json cannot be read"):
        from_environment()


def test_doctor_names_settings_that_name_no_model() -> None:
    found = {
        one.name: one for one in checks(settings("", text_model="gen3", max_credits_per_video={"gen9/*": 5, "*": 9}))
    }
    assert found["RUNWAY_TEXT_MODEL_ID"].message.startswith("gen3 is no model of text_to_video in the catalogue")
    assert found["MAX_CREDITS_PER_VIDEO"].message == "gen9/* fits no endpoint and model of the catalogue"
    assert found["catalogue"].message == "110 models in 26 endpoints"
    assert {one.name for one in checks(settings(""))} == {"catalogue"}


async def test_the_option_bounds_what_a_video_may_cost() -> None:
    body = ("--operation", "video_to_hdr", "--input", '{"videoUri": "https://videos.example.com/cat.mp4"}')
    [quote] = printed(await taxiway(None, "enqueue", "--dry-run", *body, "--max-credits", 300))
    assert (quote["model"], quote["quoted_credits"]) == ("ruby", 300)
    refused = await taxiway(None, "enqueue", "--dry-run", *body)
    assert refused.exit_code == 1
    assert "/max_credits" in refused.stderr
