"""The double of Runway takes every call that makes a task, and makes the files that Runway would."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import av
import httpx
import pytest

from service.simulator.catalogue import ANY_MODEL, LIMITS, TYPES, media, models, validate
from service.simulator.outputs import MEDIA_TYPES
from service.simulator.prices import UNPUBLISHED, price
from tests.runway_types import TYPES as TYPES_FILE
from tests.runway_types import bodies, types_file
from tests.simulator_server import IMAGE, Clock, in_process, simulator

pytestmark = pytest.mark.anyio

VIDEO, AUDIO = "https://example.com/boat.mp4", "https://example.com/boat.mp3"
EXAMPLES = {"string": "boat", "integer": 5, "number": 5, "boolean": True, "anything": {"uri": IMAGE}}
EXAMPLES |= {"image": IMAGE, "video": VIDEO, "audio": AUDIO}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def example(kind: Any, limits: dict[str, list[Any]], path: str = "", *, every_field: bool = False) -> Any:
    """A valid value of a type, with the required fields, or with every field."""
    low = limits.get(path, [None])[0]
    if isinstance(kind, str):
        return EXAMPLES[kind] if low is None or kind not in ("integer", "number") else low
    if isinstance(kind, list):
        return kind[0]
    if "list" in kind:
        return [example(kind["list"], limits, f"{path}[]", every_field=every_field)] * max(1, low or 1)
    if "map" in kind:
        return {"a": example(kind["map"], limits, f"{path}{{}}", every_field=every_field)}
    if "any" in kind:
        return example(kind["any"][0], limits, path, every_field=every_field)
    fields = {**kind.get("required", {}), **(kind.get("optional", {}) if every_field else {})}
    return {
        name: example(inner, limits, f"{path}.{name}" if path else name, every_field=every_field)
        for name, inner in fields.items()
    }


def pairs() -> list[tuple[str, str]]:
    """Every operation and body."""
    return [(operation, name) for operation, by_name in TYPES.items() for name in by_name]


def valid(operation: str, name: str, *, every_field: bool = False) -> dict[str, Any]:
    """A body that the simulator takes."""
    limits = LIMITS.get(operation, {}).get(name, {})
    body: dict[str, Any] = example(TYPES[operation][name], limits, every_field=every_field)
    return body


def url_of(operation: str) -> str:
    """Where a task of this operation is made."""
    return f"/v1/{operation}/w1" if operation == "workflows" else f"/v1/{operation}"


def is_readable(kind: str, content: bytes) -> bool:
    """True for a file that decodes as what it should be."""
    if kind == "zip":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.testzip() is None and all(
                is_readable("png", archive.read(name)) for name in archive.namelist()
            )
    if kind == "svg":
        return content.startswith(b"<svg ") and content.endswith(b"</svg>")
    with av.open(io.BytesIO(content), "r") as container:
        return any(True for _ in container.decode(container.streams[0]))


class TestTypes:
    def test_the_file_is_what_the_installed_sdk_says(self) -> None:
        assert TYPES_FILE.read_text(encoding="utf-8") == types_file(bodies())

    def test_there_are_26_operations_and_111_bodies(self) -> None:
        assert (len(TYPES), len(pairs())) == (26, 111)

    def test_every_limit_is_that_of_a_field(self) -> None:
        for operation, by_name in LIMITS.items():
            for name, limits in by_name.items():
                unused = set(limits) - set(paths(TYPES[operation][name]))
                assert not unused, (operation, name)

    def test_every_body_with_one_field_wrong_is_refused_for_it(self) -> None:
        for operation, name in pairs():
            body = valid(operation, name)
            assert validate(operation, body) == []
            assert validate(operation, valid(operation, name, every_field=True)) == []
            for field in body:
                issues = validate(operation, {**body, field: None})
                assert {issue["path"][0] for issue in issues} == {field}
            (issue,) = validate(operation, {**body, "callback_url": VIDEO})
            assert issue["code"] == "unrecognized_keys"

    @pytest.mark.parametrize(
        ("operation", "changes", "code"),
        [
            ("character_performance", {"character": {"type": "audio", "uri": AUDIO}}, "invalid_union"),
            ("character_performance", {"character": {"type": "video", "uri": VIDEO}}, None),
            ("avatar_videos", {"speech": {"type": "text", "text": "x" * 5_001}}, "invalid_union"),
            ("workflows", {"nodeOutputs": {"a": {"b": {"type": "primitive", "value": False}}}}, None),
            ("workflows", {"nodeOutputs": {"a": {"b": {"type": "primitive", "value": None}}}}, "invalid_union"),
            ("workflows", {"nodeOutputs": {"a": 1}}, "invalid_type"),
            ("voice_isolation", {"audioUri": "data:image/png;base64,aaaa"}, "custom"),
            ("voice_isolation", {"audioUri": "data:audio/wav;base64,aaaa"}, None),
        ],
    )
    def test_nested_values(self, operation: str, changes: dict[str, Any], code: str | None) -> None:
        body = {**valid(operation, next(iter(TYPES[operation]))), **changes}
        assert [issue["code"] for issue in validate(operation, body)] == ([code] if code else [])

    def test_a_tag_of_a_reference(self) -> None:
        body = valid("text_to_image", "gen4_image")
        for tag, codes in (("boat", []), ("4boats", ["invalid_format"]), ("b", ["too_small"])):
            issues = validate("text_to_image", {**body, "referenceImages": [{"uri": IMAGE, "tag": tag}]})
            assert [issue["code"] for issue in issues] == codes

    def test_a_body_that_names_its_mode(self) -> None:
        assert validate("recipes/multi_shot_video", {"mode": "other"})[0]["values"] == ["auto", "custom"]
        assert validate("recipes/multi_shot_video", {})[1]["discriminator"] == "mode"


def paths(kind: Any, path: str = "") -> list[str]:
    """The paths of a type, as limits.json writes them."""
    if not isinstance(kind, dict):
        return [path]
    if "any" in kind:
        return [inner for branch in kind["any"] for inner in paths(branch, path)]
    if "list" in kind or "map" in kind:
        return [path, *(paths(kind["list"], f"{path}[]") if "list" in kind else paths(kind["map"], f"{path}{{}}"))]
    fields = {**kind.get("required", {}), **kind.get("optional", {})}
    return [path, *(one for name in fields for one in paths(fields[name], f"{path}.{name}" if path else name))]


class TestEveryEndpoint:
    async def test_makes_tasks_and_files(self, clock: Clock) -> None:
        seen: set[tuple[str, str]] = set()
        async with in_process(simulator(clock, credits=1_000_000, tier=5)) as client:
            for operation, name in pairs():
                made = await client.post(url_of(operation), json=valid(operation, name))
                assert made.status_code == 200, (operation, name, made.text)
                clock.now += 30
                where = "workflow_invocations" if operation == "workflows" else "tasks"
                task = (await client.get(f"/v1/{where}/{made.json()['id']}")).json()
                assert task["status"] == "SUCCEEDED"
                assert task["cost"]["credits"] > 0
                urls = next(iter(task["output"].values())) if operation == "workflows" else task["output"]
                kind = urls[0].partition("?")[0].rpartition(".")[2]
                if (operation, kind) not in seen:
                    seen.add((operation, kind))
                    file = await client.get(urls[0])
                    assert file.headers["content-type"] == MEDIA_TYPES[kind]
                    assert is_readable(kind, file.content), (operation, name)

    @pytest.mark.parametrize(
        ("operation", "name", "changes", "kinds"),
        [
            ("text_to_image", "muse_image", {"outputCount": 3}, ["png"] * 3),
            ("text_to_image", "muse_image", {"outputFormat": "jpeg"}, ["jpeg"]),
            ("text_to_image", "muse_image", {"outputFormat": "webp"}, ["webp"]),
            ("text_to_image", "recraft_v4_1_vector", {}, ["svg"]),
            ("text_to_image", "recraft_v4_1_flash", {}, ["webp"]),
            ("recipes/marketing_stock_image", ANY_MODEL, {}, ["png"] * 4),
            ("generate/image", ANY_MODEL, {"input": {"promptText": "a boat", "outputCount": 2}}, ["png"] * 2),
            ("sound_effect", "seed_audio", {"outputFormat": "wav"}, ["wav"]),
            ("sound_effect", "seed_audio", {"outputFormat": "ogg_opus"}, ["ogg"]),
            ("sound_effect", "mirelo_sfx_2_0", {"format": "flac", "numVariants": 2}, ["flac"] * 2),
            ("text_to_speech", "eleven_v3", {}, ["mp3"]),
            ("text_to_video", "gen4.5", {"outputFormat": "png_sequence"}, ["zip"]),
            ("text_to_video", "gen4.5", {"outputFormat": "prores"}, ["mov"]),
        ],
    )
    async def test_the_number_and_kind_of_files(
        self, clock: Clock, operation: str, name: str, changes: dict[str, Any], kinds: list[str]
    ) -> None:
        async with in_process(simulator(clock)) as client:
            made = await client.post(url_of(operation), json={**valid(operation, name), **changes})
            clock.now += 30
            urls = (await client.get(f"/v1/tasks/{made.json()['id']}")).json()["output"]
            assert [url.partition("?")[0].rpartition(".")[2] for url in urls] == kinds
            files = [(await client.get(url)).content for url in urls]
            assert all(is_readable(kind, file) for kind, file in zip(kinds, files, strict=True))
            assert len(set(files)) == len(files)

    async def test_what_a_create_answers(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            for operation, keys in (
                ("text_to_image", {"id", "estimatedCost"}),
                ("avatar_videos", {"id"}),
                ("workflows", {"id"}),
                ("generate/video", {"id", "routing"}),
                ("generate/image", {"id", "routing"}),
                ("generate/audio", {"id", "routing"}),
            ):
                made = await client.post(url_of(operation), json=valid(operation, next(iter(TYPES[operation]))))
                assert made.json().keys() == keys

    async def test_an_invocation_of_a_workflow_is_no_task(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            invocation = (await client.post("/v1/workflows/w1", json={})).json()["id"]
            task = (await client.post("/v1/text_to_image", json=valid("text_to_image", "muse_image"))).json()["id"]
            assert (await client.get(f"/v1/tasks/{invocation}")).status_code == 404
            assert (await client.get(f"/v1/workflow_invocations/{task}")).status_code == 404
            assert (await client.get(f"/v1/workflow_invocations/{invocation}")).json().keys() == {
                "id", "createdAt", "status",
            }  # fmt: skip
            clock.now += 3
            assert (await client.get(f"/v1/workflow_invocations/{invocation}")).json()["output"] == {}


class TestPrices:
    @pytest.mark.parametrize(
        ("operation", "name", "changes", "credits"),
        [
            # What was measured at Runway.
            ("image_to_video", "grok_imagine_1_5", {"duration": 1, "resolution": "480p"}, 11),
            ("image_to_video", "grok_imagine_1_5", {"duration": 1, "resolution": "720p"}, 17),
            ("image_to_video", "grok_imagine_1_5", {"duration": 4, "resolution": "720p"}, 65),
            ("image_to_video", "seedance2_5", {"duration": 4, "ratio": "834:1112"}, 120),
            (
                "video_upscale",
                "magnific_video_upscaler_creative",
                {"resolution": "720p", "videoUri": f"{VIDEO}?seconds=3"},
                63,
            ),
            ("video_upscale", "magnific_video_upscaler_creative", {"videoUri": f"{VIDEO}?seconds=3"}, 81),
            # What follows from the published tables.
            ("text_to_video", "veo3.1", {"duration": 8}, 320),
            ("text_to_video", "veo3.1", {"duration": 8, "audio": False}, 160),
            ("text_to_video", "seedance2", {"duration": "auto", "ratio": "1920:1080"}, 600),
            ("text_to_video", "seedance2_mini", {"duration": 4}, 64),
            (
                "text_to_video",
                "kling3.0_pro",
                {"providerSettings": {"multiPrompt": [{"prompt": "a", "duration": 6}]}},
                72,
            ),
            ("video_to_video", "aleph2", {"videoUri": f"{VIDEO}?seconds=1"}, 56),
            ("video_to_video", "aleph2", {"videoUri": f"{VIDEO}?seconds=10", "outputFormat": "prores"}, 330),
            ("video_to_video", "gemini_omni_flash", {"videoUri": VIDEO, "references": [{"uri": IMAGE}]}, 56),
            ("image_to_video", "gemini_omni_flash", {"duration": 3}, 31),
            ("text_to_image", "grok_imagine_image_2", {"quality": "low", "ratio": "auto_2k"}, 6),
            ("text_to_image", "ideogram_4_5", {}, 25),
            ("text_to_image", "ideogram_4_5", {"referenceImages": [{"uri": IMAGE}]}, 8),
            ("voice_dubbing", "eleven_voice_dubbing", {"audioUri": f"{AUDIO}?seconds=9"}, 5),
            ("recipes/product_ad", ANY_MODEL, {"duration": 8, "ratio": "1920:1080"}, 376),
            ("text_to_video", "kling_4", {}, UNPUBLISHED),
        ],
    )
    def test_published(self, operation: str, name: str, changes: dict[str, Any], credits: int) -> None:
        body = {**valid(operation, name), **changes}
        assert validate(operation, body) == []
        assert price(operation, body) == credits

    def test_nothing_is_free(self) -> None:
        for operation, name in pairs():
            for every_field in (False, True):
                assert price(operation, valid(operation, name, every_field=every_field)) > 0, (operation, name)


class TestUploads:
    async def upload(self, client: httpx.AsyncClient, content: bytes = b"\r\n" * 512) -> tuple[str, int]:
        """Upload a file; its URI, and what the form said."""
        form = (await client.post("/v1/uploads", json={"filename": "boat.png", "type": "ephemeral"})).json()
        taken = await client.post(form["uploadUrl"], data=form["fields"], files={"file": ("boat.png", content)})
        return form["runwayUri"], taken.status_code

    async def create(self, client: httpx.AsyncClient, uri: str) -> httpx.Response:
        """Make a task from an upload."""
        body = valid("video_to_video", "seedance2") | {"promptVideo": VIDEO, "references": [{"uri": uri}]}
        return await client.post("/v1/video_to_video", json=body)

    async def test_a_file_is_accepted_for_24_hours(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            uri, status = await self.upload(client)
            assert status == 204
            clock.now += 86_399
            assert (await self.create(client, uri)).status_code == 200
            clock.now += 1
            refused = await self.create(client, uri)
            assert refused.status_code == 400
            (issue,) = refused.json()["issues"]
            assert (issue["path"], issue["message"][:21]) == (["references", 0, "uri"], "Failed to fetch asset")

    async def test_what_never_came_is_refused(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            assert (await self.create(client, "runway://elsewhere")).status_code == 400
            uri, status = await self.upload(client, b"small")
            assert status == 403
            assert (await self.create(client, uri)).status_code == 400

    async def test_a_form_takes_one_file_and_only_with_its_key(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            uri, _ = await self.upload(client)
            file = {"file": ("boat.png", b"x" * 512)}
            for key in (uri.removeprefix("runway://"), "other"):
                assert (await client.post("/uploads", data={"key": key}, files=file)).status_code == 403
            assert (await client.post("/uploads", content=b"")).status_code == 403

    async def test_the_request_is_validated(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            wrong = await client.post("/v1/uploads", json={"filename": "a", "type": "lasting"})
            assert [issue["path"] for issue in wrong.json()["issues"]] == [["filename"], ["type"]]
            assert (await client.post("/v1/uploads", content=b"{")).status_code == 400
            assert (await client.post("/v1/uploads", headers={"authorization": ""})).status_code == 401


class TestUsage:
    async def test_net_credits_by_day_and_model(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            await client.post("/v1/text_to_image", json=valid("text_to_image", "muse_image"))
            failing = {"x-simulate": "fail=INTERNAL"}
            await client.post("/v1/recipes/product_swap", json=valid("recipes/product_swap", "*"), headers=failing)
            clock.now += 86_400
            await client.post("/v1/recipes/product_swap", json=valid("recipes/product_swap", "*"))
            first = {"date": "2026-09-21", "usedCredits": [
                {"model": "muse_image", "amount": 1}, {"model": "product_swap", "amount": 0},
            ]}  # fmt: skip
            second = {"date": "2026-09-22", "usedCredits": [{"model": "product_swap", "amount": 212}]}
            usage = (await client.post("/v1/organization/usage", json={"startDate": "2026-09-21"})).json()
            assert usage == {"models": ["muse_image", "product_swap"], "results": [first, second]}
            # Without dates, it is the last 30 days, up to today.
            assert (await client.post("/v1/organization/usage")).json()["results"] == [first]

    async def test_the_dates_are_validated(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            for body, path in (
                ({"startDate": "yesterday"}, "startDate"),
                ({"startDate": "2026-01-01", "beforeDate": "2026-04-02"}, "beforeDate"),
                ({"startDate": "2026-01-02", "beforeDate": "2026-01-01"}, "beforeDate"),
            ):
                wrong = await client.post("/v1/organization/usage", json=body)
                assert [issue["path"] for issue in wrong.json()["issues"]] == [[path]]
            assert (await client.post("/v1/organization/usage", content=b"[]")).status_code == 400
            assert (await client.post("/v1/organization/usage", headers={"authorization": ""})).status_code == 401

    async def test_the_organization_counts_every_model(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            tier = (await client.get("/v1/organization")).json()["tier"]
            assert tuple(tier["models"]) == models()
            assert {"gen4.5", "product_ad", "eleven_v3"} <= set(models())


def test_the_files_of_a_body_are_found_with_their_paths() -> None:
    body = valid("character_performance", "act_two") | {"character": {"type": "video", "uri": VIDEO}}
    found = {".".join(map(str, one.path)): one.kind for one in media("character_performance", body)}
    assert found == {"character.uri": "video", "reference.uri": "video"}
    overridden = {"nodeOutputs": {"a": {"b": {"type": "audio", "uri": AUDIO}}}}
    assert [one.kind for one in media("workflows", overridden)] == ["audio"]
