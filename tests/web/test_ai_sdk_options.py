"""The options of the AI SDK's video models, one by one, in the body that a provider makes of them: what is sent.

The names are those of `VideoModelV4CallOptions` (@ai-sdk/provider 4.0.38).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.world import IMAGE, World

pytestmark = pytest.mark.anyio

PIXEL = "data:image/png;base64,iVBORw0KGgo="
FIRST = {"uri": IMAGE, "position": "first"}
TEXT = {"model": "gen4.5", "promptText": "a boat", "ratio": "1280:720", "duration": 5, "outputFormat": "mp4"}
PICTURE = {"model": "gen4_turbo", "promptText": "a boat", "promptImage": IMAGE, "ratio": "1280:720", "duration": 5}


def body(input: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"input": {"promptText": "a boat"} | input} | beside


SENT: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("prompt", body({}), TEXT, []),
    ("n", body({}, count=1), TEXT, []),
    ("aspectRatio", body({}, aspect_ratio="9:16"), TEXT | {"ratio": "720:1280"}, []),
    ("resolution", body({}, resolution="720x1280"), TEXT | {"ratio": "720:1280"}, []),
    ("duration", body({"duration": 8}), TEXT | {"duration": 8}, []),
    ("fps", body({}, fps=24), TEXT, ["fps"]),
    ("seed", body({"seed": 7}), TEXT | {"seed": 7}, []),
    ("image, an address", body({"promptImage": IMAGE}), PICTURE, []),
    ("image, its bytes", body({"promptImage": PIXEL}), PICTURE | {"promptImage": PIXEL}, []),
    ("frameImages, the first", body({"promptImage": [FIRST]}), PICTURE | {"promptImage": [FIRST]}, []),
    ("inputReferences", body({}, references=[IMAGE]), TEXT, ["references"]),
    ("generateAudio", body({}, generate_audio=True), TEXT, ["generate_audio"]),
    ("providerOptions.runway", body({"outputFormat": "prores"}), TEXT | {"outputFormat": "prores"}, []),
    ("providerOptions.taxiway", body({}, priority=5), TEXT, []),
    (
        "all that a model lacks", body({}, fps=30, generate_audio=False, references=[IMAGE]), TEXT,
        ["fps", "generate_audio", "references"],
    ),
    ("undefined, as JSON has it", body({}, aspect_ratio=None, resolution=None, fps=None), TEXT, []),
]  # fmt: skip
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("aspectRatio adaptive", body({"promptImage": IMAGE}, aspect_ratio="adaptive"), "/aspect_ratio"),
    ("aspectRatio", body({}, aspect_ratio="1:1"), "/aspect_ratio"),
    ("resolution", body({}, resolution="1920x1080"), "/resolution"),
    ("duration", body({"duration": 12}), "/input/duration"),
    ("frameImages, the last", body({"promptImage": [FIRST, FIRST | {"position": "last"}]}), "/input/promptImage"),
    ("n", body({}, count=11), "/count"),
]


@pytest.mark.parametrize(("option", "sent"), [(one[0], one[1:]) for one in SENT], ids=[one[0] for one in SENT])
async def test_what_is_sent_for_an_option(
    w: World, option: str, sent: tuple[dict[str, Any], dict[str, Any], list[str]]
) -> None:
    given, expected, warned = sent
    video = (await w.api.post("/videos", json=given)).json()
    assert (await w.tick())["submit"]["accepted"] == 1, option
    assert w.creates[0].path.rpartition("/")[2] == video["operation"]
    [row] = await w.rows("SELECT input::text, warnings::text FROM taxiway.videos")
    assert json.loads(row["input"]) == expected
    assert [(one["type"], one["feature"]) for one in video["warnings"]] == [("unsupported", name) for name in warned]


@pytest.mark.parametrize(("option", "given", "pointer"), REFUSED)
async def test_what_is_refused_of_an_option(w: World, option: str, given: dict[str, Any], pointer: str) -> None:
    answer = await w.api.post("/videos", json=given)
    assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (422, [pointer]), option
