"""The studio's form is made from the catalogue: every model can be filled in, and is queued as it was filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from decimal import Decimal
from html import unescape
from random import Random
from typing import Any
from uuid import UUID

import pytest

from service.errors import InvalidRequest
from service.runway import catalogue
from tests.generated import valid
from tests.pages import HTMX, Control, check, control
from tests.world import IMAGE

pytestmark = pytest.mark.anyio

TRIES = 5_000  # rules between fields are not in the schema that the bodies are made from
BOUND = 100_000
MOST_FIELDS = 180  # of the 200 that a form may have
LONGEST_BODY = 5_000
MP4, MP3 = "https://example.com/boat.mp4", "https://example.com/boat.mp3"


class CannotBeFilledIn(Exception):
    """A form has no place for this."""


def filled(value: Any, name: str, drawn: Collection[str]) -> dict[str, str]:
    """How a value is filled in where a form has these fields. What can have one value only has no field."""
    if name in drawn:
        if value in ("", [], {}):
            raise CannotBeFilledIn(name)
        return {name: value if isinstance(value, str) else json.dumps(value)}
    if not isinstance(value, dict | list):
        return {}
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = {key: text for part, one in inner for key, text in filled(one, f"{name}.{part}", drawn).items()}
    rows = range(len(value)) if isinstance(value, list) else ()
    if not found or not all(any(f"{key}.".startswith(f"{name}.{row}.") for key in found) for row in rows):
        raise CannotBeFilledIn(name)
    return found


def built(operation: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """What POST /videos would queue for this body; None if it is refused."""
    try:
        return catalogue.build_request(
            operation, body, default_model=None, default_ratio="1280:720", default_duration=5,
            max_credits=Decimal(BOUND),
        ).input  # fmt: skip
    except InvalidRequest:
        return None


async def fields_of(c: Control, what: str) -> list[str]:
    """The names of the fields that the form of a model has."""
    page = await c.admin.client.get("/ui/studio", params={"what": what}, headers=HTMX)
    check(page)
    return [unescape(name) for name in re.findall(r'<(?:input|select|textarea)[^>]* name="([^"]+)"', page.text)]


async def test_every_model_is_queued_as_its_form_was_filled_in(database_url: str) -> None:
    async with control(database_url) as c:
        taken: list[catalogue.Model] = []
        for model in catalogue.pairs():
            what, random = f"{model.operation} {model.name}", Random(model.key)  # test data
            operation = model.operation + ("/0a1b" if model.operation == "workflows" else "")
            named = {"model": model.name} if model.name != model.operation else {}
            names = await fields_of(c, what)
            assert len(names) == len(set(names)) < MOST_FIELDS
            for _ in range(TRIES):
                body = valid(model.schema, random)
                wanted = built(operation, named | body)
                if wanted is None or len(json.dumps(body)) > LONGEST_BODY:
                    continue
                try:
                    form = {key: text for name in body for key, text in filled(body[name], f"f.{name}", names).items()}
                except CannotBeFilledIn:
                    continue
                empty = dict.fromkeys(names, "")
                sent: dict[str, Any] = empty | form | {"what": what, "max_credits": str(BOUND)}
                answer = await c.admin.post("/ui/studio", **sent | ({"id": "0a1b"} if "id" in names else {}))
                assert answer.status_code == 303, (what, body, check(answer))
                row = await c.world.row(UUID(answer.headers["location"].rpartition("/")[2]))
                assert (row["operation"], row["model"]) == (operation, model.name)
                assert json.loads(row["input"]) == wanted
                taken.append(model)
                break
        assert [one.key for one in catalogue.pairs() if one not in taken] == []
        assert len(taken) == 111


async def test_the_form_follows_the_schema(database_url: str) -> None:
    async with control(database_url) as c:

        async def form(what: str) -> str:
            return (await c.admin.client.get("/ui/studio", params={"what": what}, headers=HTMX)).text

        page = (await c.admin.get("/ui/studio")).text
        groups = re.findall(r'<optgroup label="([^"]+)">(.*?)</optgroup>', page, re.DOTALL)
        outputs = [label.partition(":")[0] for label, _ in groups]
        assert [*dict.fromkeys(outputs)][:3] == ["Video", "Image", "Audio"]
        assert len(outputs) - outputs.count("Video") == len(outputs[outputs.index("Image") :])
        assert sum(options.count("<option ") for _, options in groups) == 110  # one operation has two forms of body
        assert 'value="text_to_speech seed_audio"' in dict(groups)["Audio: text to speech"]
        assert "because its price is not known" not in page
        assert "because its price is not known" in await form("workflows workflows")
        assert 'name="id"' in await form("workflows workflows")
        for row in range(3):
            assert f'name="f.keyframes.{row}.range.start_seconds"' in await form("video_to_video aleph2")
        both = await form("recipes/multi_shot_video recipes/multi_shot_video")
        assert re.findall(r"<option>(auto|custom)</option>", both) == ["auto", "custom"]
        character = await form("character_performance act_two")
        assert 'aria-label="Address of the image or video"' in character
        assert 'name="f.reference.type"' not in character, "it can be a video only"


async def test_what_the_form_says_of_files_bounds_and_json(database_url: str) -> None:
    async with control(database_url) as c:
        act_two = {
            "what": "character_performance act_two", "f.character.type": "video", "f.character.uri": MP4,
            "has.f.reference.uri": "data:video/mp4;base64",
        }  # fmt: skip

        async def quoted(**fields: Any) -> str:
            return check(await c.admin.post("/ui/studio/quote", part=True, **fields))

        async def queued(**fields: Any) -> tuple[str, Any]:
            answer = await c.admin.post("/ui/studio", **fields)
            assert answer.status_code == 303, check(answer)
            video_id = answer.headers["location"].rpartition("/")[2]
            return video_id, await c.world.row(UUID(video_id))

        assert "credits" in await quoted(**act_two)
        assert "Reference" in await quoted(**act_two | {"has.f.reference.uri": ""})
        uri = "data:video/mp4;base64,AAAAIGZ0eXA="
        first, row = await queued(**act_two | {"file.f.reference.uri": uri})
        assert json.loads(row["input"])["reference"] == {"type": "video", "uri": uri}
        page = await c.admin.get(f"/ui/studio?from={first}")
        assert "The video of the video that this began from is kept" in check(page)
        assert uri not in page.text
        _, row = await queued(**act_two | {"source": first})
        assert json.loads(row["input"])["reference"]["uri"] == uri

        images = [{"uri": IMAGE, "position": "first"}]
        turbo = {"what": "image_to_video gen4_turbo", "f.promptText": "typed", "f.promptImage": json.dumps(images)}
        assert json.loads((await queued(**turbo))[1]["input"])["promptImage"] == images
        assert "Image" in await quoted(**turbo | {"f.promptImage": "[" * 5_000})
        assert "Most credits" in await quoted(**turbo | {"max_credits": "1"})
        whole = {"promptImage": IMAGE, "duration": 10}
        _, row = await queued(**turbo | {"body": json.dumps(whole)})
        assert json.loads(row["input"]) == {"model": "gen4_turbo", "ratio": "1280:720"} | whole
        assert "body" in await quoted(**turbo | {"body": "{"})
        assert "body must be a JSON object" in await quoted(**turbo | {"body": "[1]"})
        workflow = {"what": "workflows workflows", "id": "0a1b"}
        assert "Most credits" in await quoted(**workflow)
        assert "Node outputs must be" in await quoted(**workflow | {"f.nodeOutputs": '{"a": 1e400}'})
        assert "7 credits" in await quoted(**workflow, max_credits="7")
        again, _ = await queued(**workflow, max_credits="7")
        assert 'name="id" value="0a1b"' in (await c.admin.get(f"/ui/studio?from={again}")).text
