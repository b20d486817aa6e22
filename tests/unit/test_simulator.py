"""The double of Runway: rules, the life of tasks, the books, faults, files, and the relay."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from service.simulator.app import Simulator, SimulatorOptions, create_simulator
from service.simulator.catalogue import validate
from service.simulator.faults import FaultPlan, parse_fault
from service.simulator.memory import Memory, State
from service.simulator.relay import default_client, sign
from tests.simulator_server import HEADERS, IMAGE, Clock, body, in_process, on_socket, simulator, until

pytestmark = pytest.mark.anyio

PIXEL = "data:image/png;base64," + base64.b64encode(b"pixel").decode()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def make(client: httpx.AsyncClient, simulate: str | None = None, **changes: Any) -> str:
    """Create a task; returns its id."""
    headers = {"x-simulate": simulate} if simulate else {}
    answer = await client.post("/v1/image_to_video", json=body(**changes), headers=headers)
    assert answer.status_code == 200, answer.text
    task_id: str = answer.json()["id"]
    return task_id


async def look(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    """GET a task that is there."""
    answer = await client.get(f"/v1/tasks/{task_id}")
    assert answer.status_code == 200, answer.text
    task: dict[str, Any] = answer.json()
    return task


async def books(client: httpx.AsyncClient) -> dict[str, Any]:
    """The ledger."""
    ledger: dict[str, Any] = (await client.get("/_simulator/ledger")).json()
    return ledger


class TestRules:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"promptText": None, "duration": None},
            {"promptText": "x" * 1_000},
            {"duration": 2},
            {"duration": 10.0},
            {"seed": 0},
            {"seed": 4_294_967_295},
            {"contentModeration": {"publicFigureThreshold": "low"}},
            {"promptImage": PIXEL},
            {"promptImage": "runway://abcdef"},
            {"promptImage": [{"uri": IMAGE, "position": "first"}]},
            {"model": "gen4.5", "outputFormat": "prores", "proresProfile": "4444"},
        ],
    )
    def test_accepted(self, changes: dict[str, Any]) -> None:
        assert validate("image_to_video", body(**changes)) == []

    @pytest.mark.parametrize(
        ("changes", "code", "path", "message"),
        [
            ({"ratio": "16:9"}, "invalid_value", ["ratio"], 'expected one of "1280:720"|"720:1280"|'),
            ({"ratio": None}, "invalid_value", ["ratio"], "Invalid option"),
            ({"duration": 1}, "too_small", ["duration"], "Too small: expected number to be >=2"),
            ({"duration": 11}, "too_big", ["duration"], "Too big: expected number to be <=10"),
            ({"duration": 2.5}, "invalid_type", ["duration"], "expected int, received number"),
            ({"duration": "5"}, "invalid_type", ["duration"], "expected number, received string"),
            ({"duration": True}, "invalid_type", ["duration"], "expected number, received boolean"),
            ({"seed": -1}, "too_small", ["seed"], ">=0"),
            ({"seed": 4_294_967_296}, "too_big", ["seed"], "<=4294967295"),
            ({"promptText": ""}, "too_small", ["promptText"], "to have >=1 characters"),
            ({"promptText": "x" * 999 + "\U0001f6a4"}, "too_big", ["promptText"], "<=1000 characters"),
            ({"promptText": 5}, "invalid_type", ["promptText"], "expected string, received number"),
            ({"contentModeration": []}, "invalid_type", ["contentModeration"], "expected object"),
            ({"outputFormat": "mp4"}, "unrecognized_keys", [], 'Unrecognized key: "outputFormat"'),
            ({"a": 1, "b": 2}, "unrecognized_keys", [], 'Unrecognized keys: "a", "b"'),
            ({"promptImage": None}, "invalid_union", ["promptImage"], "Invalid input"),
            ({"promptImage": []}, "too_small", ["promptImage"], "expected array to have >=1 items"),
            ({"promptImage": [{"position": "first"}]}, "invalid_type", ["promptImage", 0, "uri"], "string"),
            (
                {"promptImage": [{"uri": IMAGE, "position": "last"}]},
                "invalid_value", ["promptImage", 0, "position"], 'Invalid input: expected "first"',
            ),
            ({"promptImage": "boat.jpg"}, "custom", ["promptImage"], "Invalid URL"),
            ({"promptImage": "https://[boat"}, "custom", ["promptImage"], "Invalid URL"),
            ({"promptImage": "http://e.com/a"}, "custom", ["promptImage"], "Only HTTPS URLs are allowed."),
            ({"promptImage": "https://10.0.0.1/a"}, "custom", ["promptImage"], "hosted on a domain."),
            ({"promptImage": "https://localhost/a"}, "custom", ["promptImage"], "hosted on a domain."),
            ({"promptImage": "https://e.com/" + "a" * 2_040}, "too_big", ["promptImage"], "<=2048"),
            ({"promptImage": "runway://abc"}, "too_small", ["promptImage"], ">=13 characters"),
            ({"promptImage": "data:image/png,abc"}, "custom", ["promptImage"], "Invalid data URI."),
            ({"promptImage": "data:image/png;base64,a"}, "custom", ["promptImage"], "Invalid data URI."),
            ({"promptImage": "data:;base64,aaaa"}, "custom", ["promptImage"], "Unsupported asset"),
            ({"promptImage": "data:image/gif;base64,aaaa"}, "custom", ["promptImage"], "Unsupported asset"),
            ({"promptImage": PIXEL + "A" * 5_242_880}, "too_big", ["promptImage"], "<=5242880 characters"),
            ({"model": "veo9"}, "invalid_value", ["model"], 'expected one of "gen4.5"|"gen4_turbo"'),
            ({"model": "gen4.5", "duration": None}, "invalid_type", ["duration"], "received undefined"),
            ({"model": "gen4.5", "promptText": None}, "invalid_type", ["promptText"], "received undefined"),
        ],
    )  # fmt: skip
    def test_refused(self, changes: dict[str, Any], code: str, path: list[Any], message: str) -> None:
        (issue,) = validate("image_to_video", body(**changes))
        assert (issue["code"], issue["path"]) == (code, path)
        assert message in issue["message"]

    def test_a_body_without_a_model_is_refused_as_runway_was_seen_to(self) -> None:
        assert validate("image_to_video", {}) == [
            {
                "expected": "string",
                "code": "invalid_type",
                "path": ["model"],
                "message": "Invalid input: expected string, received undefined",
            },
            {
                "code": "invalid_union",
                "errors": [],
                "note": "No matching discriminator",
                "discriminator": "model",
                "path": ["model"],
                "message": "Invalid input",
            },
        ]

    def test_a_model_of_the_wrong_type(self) -> None:
        assert "received null" in validate("image_to_video", {"model": None})[0]["message"]

    def test_text_to_video_has_its_own_models_and_ratios(self) -> None:
        assert "gen4_turbo" not in validate("text_to_video", body())[0]["values"]
        base = {"model": "gen4.5", "promptText": "a boat", "duration": 5}
        assert validate("text_to_video", {**base, "ratio": "720:1280"}) == []
        assert validate("text_to_video", {**base, "ratio": "960:960"})[0]["path"] == ["ratio"]

    def test_a_body_that_is_no_object(self) -> None:
        assert validate("text_to_video", [])[0]["message"] == "Invalid input: expected object, received array"


class TestGate:
    @pytest.mark.parametrize(
        ("headers", "status", "words"),
        [
            ({"authorization": ""}, 401, "No API key"),
            ({"authorization": "Bearer sk-1"}, 401, "not valid"),
            ({"authorization": "Basic key_1"}, 401, "not valid"),
            (
                {"x-runway-version": ""},
                400,
                "The API version that was provided in the X-Runway-Version header",
            ),
            ({"x-runway-version": "2024-09-13"}, 400, "is not valid."),
            ({"host": "api.runwayml.com"}, 401, "Incorrect hostname for API key"),
        ],
    )
    async def test_refuses(self, clock: Clock, headers: dict[str, str], status: int, words: str) -> None:
        async with in_process(simulator(clock)) as client:
            answer = await client.post("/v1/image_to_video", json=body(), headers=headers)
            assert answer.status_code == status
            assert words in answer.json()["error"]
            assert answer.json()["docUrl"] == "https://docs.dev.runwayml.com/api"
            assert answer.headers["apigw-requestid"].endswith("=")
            assert (await books(client))["entries"][0]["status"] == status

    async def test_one_key_alone(self, clock: Clock) -> None:
        async with in_process(simulator(clock, key="key_right")) as client:
            assert (await client.get("/v1/organization")).status_code == 401
            right = {"authorization": "Bearer key_right"}
            assert (await client.get("/v1/organization", headers=right)).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("POST", "/image-to-video", 404),
            ("POST", "/v1/image-to-video", 404),
            ("POST", "/v1/v1/image_to_video", 404),
            ("POST", "/v1/image_to_video/", 404),
            ("GET", "/v1/tasks", 404),
            ("GET", "/v1/image_to_video", 405),
            ("PUT", "/v1/tasks/1", 405),
        ],
    )
    async def test_paths_that_runway_does_not_serve(self, clock: Clock, method: str, path: str, status: int) -> None:
        async with in_process(simulator(clock)) as client:
            answer = await client.request(method, path)
            assert answer.status_code == status
            assert "error" in answer.json()
            wrong_host = await client.request(method, path, headers={"host": "api.runwayml.com"})
            assert wrong_host.status_code == 401

    async def test_a_body_that_is_no_json(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            answer = await client.post("/v1/image_to_video", content=b"{")
            assert answer.status_code == 400


class TestLife:
    async def test_from_pending_to_succeeded(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            task_id = await make(client)
            task = await look(client, task_id)
            assert task == {
                "id": task_id,
                "createdAt": "2026-09-21T14:13:20.000Z",
                "status": "PENDING",
                "estimatedCost": {"credits": 25},
            }
            clock.now += 3
            task = await look(client, task_id)
            assert task["status"] == "RUNNING"
            assert 0 < task["progress"] < 0.2
            clock.now += 25
            task = await look(client, task_id)
            assert (task["status"], task["cost"]) == ("SUCCEEDED", {"credits": 25})

    async def test_over_the_concurrency_tasks_are_throttled_and_released_in_order(self, clock: Clock) -> None:
        async with in_process(simulator(clock, tier=1)) as client:
            ids = [await make(client) for _ in range(3)]
            other = await make(client, model="gen4.5")
            clock.now += 3
            assert [(await look(client, one))["status"] for one in ids] == [
                "RUNNING",
                "THROTTLED",
                "THROTTLED",
            ]
            assert (await look(client, other))["status"] == "RUNNING"
            clock.now += 20
            assert [(await look(client, one))["status"] for one in ids] == [
                "SUCCEEDED",
                "RUNNING",
                "THROTTLED",
            ]
            clock.now += 1_000
            assert (await look(client, ids[2]))["status"] == "SUCCEEDED"

    async def test_a_deleted_task_gives_its_slot_on(self, clock: Clock) -> None:
        async with in_process(simulator(clock, tier=1)) as client:
            ids = [await make(client) for _ in range(3)]
            clock.now += 3
            assert (await client.delete(f"/v1/tasks/{ids[1]}")).status_code == 204
            assert (await client.delete(f"/v1/tasks/{ids[0]}")).status_code == 204
            assert (await client.delete(f"/v1/tasks/{ids[0]}")).json() == {"error": "Could not find Task"}
            assert (await look(client, ids[2]))["status"] == "RUNNING"
            totals = (await books(client))["totals"]
            assert (totals["refunded"], totals["deleted"]) == (25, 2)  # the running one stays charged

    async def test_speed(self, clock: Clock) -> None:
        async with in_process(simulator(clock, speed=0)) as client:
            task_id = await make(client)
            clock.now += 1_000
            assert (await look(client, task_id))["status"] == "PENDING"
            await client.post("/_simulator/settings", json={"speed": 20})
            clock.now += 0.2
            assert (await look(client, task_id))["status"] == "RUNNING"
            clock.now += 1
            assert (await look(client, task_id))["status"] == "SUCCEEDED"

    @pytest.mark.parametrize(
        ("code", "cost"),
        [
            ("SAFETY.INPUT.TEXT", 25),
            ("SAFETY.INPUT.IMAGE", 25),
            ("SAFETY.OUTPUT.VIDEO", 0),
            ("INPUT_PREPROCESSING.SAFETY.TEXT", 0),
            ("INPUT_PREPROCESSING.INTERNAL", 0),
            ("INTERNAL.BAD_OUTPUT.CODE01", 0),
            ("ASSET.INVALID", 0),
            ("THIRD_PARTY.UNAVAILABLE", 0),
            ("INTERNAL", 0),
            ("null", 0),
        ],
    )
    async def test_failures(self, clock: Clock, code: str, cost: int) -> None:
        async with in_process(simulator(clock, credits=100)) as client:
            task_id = await make(client, f"fail={code}")
            clock.now += 30
            task = await look(client, task_id)
            assert task["status"] == "FAILED"
            assert task["failure"]
            assert task["failureCode"] == (None if code == "null" else code)
            assert task["cost"] == {"credits": cost}
            assert (await client.get("/v1/organization")).json()["creditBalance"] == 100 - cost

    async def test_other_fates(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            fates = ("empty", "cancelled", "throttled", "vanish")
            ids = {fate: await make(client, fate) for fate in fates}
            assert (await look(client, ids["vanish"]))["status"] == "PENDING"
            clock.now += 1_000
            assert (await look(client, ids["empty"]))["output"] == []
            assert (await look(client, ids["throttled"]))["status"] == "THROTTLED"
            cancelled = await look(client, ids["cancelled"])
            assert (cancelled["status"], cancelled["cost"]) == ("CANCELLED", {"credits": 0})
            assert (await client.get(f"/v1/tasks/{ids['vanish']}")).status_code == 404
            assert (await client.delete(f"/v1/tasks/{ids['throttled']}")).status_code == 204

    async def test_backwards(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            task_id = await make(client, "backwards")
            seen = []
            for seconds in (3, 0, 30, 0, 0):
                clock.now += seconds
                seen.append((await look(client, task_id))["status"])
            assert seen == ["RUNNING", "PENDING", "SUCCEEDED", "RUNNING", "SUCCEEDED"]


class TestAccount:
    async def test_prices_and_the_end_of_the_credits(self, clock: Clock) -> None:
        async with in_process(simulator(clock, credits=119)) as client:
            await make(client)
            await make(client, duration=None)
            made = await client.post("/v1/image_to_video", json=body(model="gen4.5", duration=2, outputFormat="hlg"))
            assert made.status_code == 400
            assert made.json() == {
                "error": "You do not have enough credits to run this task.",
                "docUrl": "https://docs.dev.runwayml.com/api",
            }
            await client.post("/_simulator/settings", json={"credits": 64})
            await make(client, model="gen4.5", duration=2, outputFormat="hlg")
            assert (await client.get("/v1/organization")).json()["creditBalance"] == 0

    async def test_the_daily_limit_is_rolling_and_per_model(self, clock: Clock) -> None:
        async with in_process(simulator(clock, daily_limit=2)) as client:
            await make(client)
            clock.now += 3_600
            await make(client)
            refused = await client.post("/v1/image_to_video", json=body())
            assert refused.status_code == 429
            assert refused.json()["error"] == "Your daily task limit has been reached."
            await make(client, model="gen4.5")
            clock.now += 86_400 - 3_600
            await make(client)
            usage = (await client.get("/v1/organization")).json()["usage"]["models"]
            made = {model: each["dailyGenerations"] for model, each in usage.items()}
            assert {model: count for model, count in made.items() if count} == {"gen4.5": 1, "gen4_turbo": 2}

    async def test_the_ledger_counts_every_create(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            task_id = await make(client)
            await client.post("/v1/image_to_video", json=body(duration=1))
            await client.post("/v1/image_to_video", json=body(), headers={"x-simulate": "status=503"})
            ledger = await books(client)
            assert [(e["task_id"], e["status"], e["fault"], e["charged"]) for e in ledger["entries"]] == [
                (task_id, 200, "", 25),
                (None, 400, "", 0),
                (None, 503, "status=503", 0),
            ]
            assert ledger["entries"][0]["prompt"] == "a boat"
            assert ledger["totals"]["creates"] == 3
            assert (await client.post("/_simulator/reset")).status_code == 204
            assert (await books(client))["totals"]["creates"] == 0

    async def test_settings_are_checked(self, clock: Clock) -> None:
        async with in_process(simulator(clock, daily_limit=0)) as client:
            mistakes: list[Any] = [
                {"tier": 6},
                {"tier": 1.5},
                {"speed": -1},
                {"key_revoked": 1},
                {"colour": 1},
            ]
            for wrong in [*mistakes, [], None]:
                assert (await client.post("/_simulator/settings", json=wrong)).status_code == 400, wrong
            right = {"tier": 5, "key_revoked": True, "daily_limit": None, "key": "key_test", "url_ttl": 5}
            assert (await client.post("/_simulator/settings", json=right)).status_code == 200
            assert (await client.get("/v1/organization")).json()["error"] == "This API key has been disabled."

    def test_options_are_checked(self) -> None:
        mistakes: list[dict[str, Any]] = [{"speed": -1}, {"tier": 0}, {"relay_url": "http://127.0.0.1"}]
        for wrong in mistakes:
            with pytest.raises(ValueError):
                SimulatorOptions(**wrong)


class TestFile:
    async def test_a_url_works_for_a_time_and_a_get_renews_it(self, clock: Clock) -> None:
        async with in_process(simulator(clock, url_ttl=60)) as client:
            task_id = await make(client)
            clock.now += 30
            url = (await look(client, task_id))["output"][0]
            token = url.partition("_jwt=")[2]
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
            assert claims["exp"] == clock.now + 60
            file = await client.get(url, headers={"authorization": ""})
            assert (file.status_code, file.headers["content-type"]) == (200, "video/mp4")
            assert int(file.headers["content-length"]) == len(file.content)
            assert b"ftyp" in file.content[:16]
            assert (await client.head(url)).headers["content-length"] == str(len(file.content))
            clock.now += 60
            assert (await client.get(url)).status_code == 403
            assert (await client.get((await look(client, task_id))["output"][0])).status_code == 200

    async def test_other_tokens_do_not_open_it(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            one, other = await make(client), await make(client)
            clock.now += 30
            token = (await look(client, one))["output"][0].partition("?")[2]
            for query in ("", "_jwt=", "_jwt=a.b.c", token):
                assert (await client.get(f"/outputs/{other}.mp4?{query}")).status_code == 403
            files = [await client.get((await look(client, task))["output"][0]) for task in (one, other)]
            assert files[0].content != files[1].content

    async def test_ranges(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            task_id = await make(client)
            clock.now += 30
            url = (await look(client, task_id))["output"][0]
            whole = (await client.get(url)).content
            total = len(whole)
            for wanted, status, part in (
                ("bytes=0-9", 206, whole[:10]),
                ("bytes=10-", 206, whole[10:]),
                ("bytes=-5", 206, whole[-5:]),
                (f"bytes={total}-", 416, b""),
                ("bytes=-", 200, whole),
                ("bytes=0-1,4-5", 200, whole),
            ):
                answer = await client.get(url, headers={"range": wanted})
                assert (answer.status_code, answer.content) == (status, part), wanted


class TestFaults:
    @pytest.mark.parametrize(
        "words", ["nonsense", "slow=x", "slow=-1", "slow=inf", "status=99", "status", "body=x", "runway=1"]
    )
    def test_unknown_words_are_named(self, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            parse_fault(words)

    @pytest.mark.parametrize("item", [1, {}, {"simulate": "half", "on": "x"}, {"simulate": "half", "times": 0}])
    def test_a_plan_is_checked(self, item: object) -> None:
        with pytest.raises(ValueError):
            FaultPlan().add([item])

    async def test_a_plan_is_consumed_in_order_by_the_requests_it_is_for(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            plan = [
                "status=500",
                {"simulate": "status=502", "times": 2},
                {"simulate": "status=503", "on": "retrieve"},
            ]
            assert (await client.post("/_simulator/faults", json=plan)).json() == {"waiting": 3}
            creates = [(await client.post("/v1/image_to_video", json=body())).status_code for _ in range(4)]
            assert creates == [500, 502, 502, 200]
            assert [(await client.get("/v1/tasks/1")).status_code for _ in range(2)] == [503, 404]
            assert (await client.post("/_simulator/faults", json="oops")).status_code == 400
            assert (await client.post("/_simulator/faults", content=b"{")).status_code == 400
            assert (await client.get("/v1/tasks/1", headers={"x-simulate": "oops"})).status_code == 400

    @pytest.mark.parametrize(
        ("words", "status", "text", "accepted"),
        [
            ("status=503", 503, '{"error":"Service Unavailable"', 0),
            ("status=502, body=bare", 502, '{"message":"Bad Gateway"}', 0),
            ("status=504, body=html", 504, "<html>", 0),
            ("status=429", 429, "daily task limit", 0),
            ("status=404", 404, "Could not find Task", 0),
            ("status=599", 599, "Error", 0),
            ("no_credits", 400, "enough credits", 0),
            ("key_revoked", 401, "disabled", 0),
            ("daily_limit", 429, "daily task limit", 0),
            ("accepted_status=504", 504, "Gateway Timeout", 1),
            ("accepted_status=201", 201, '{"id":', 1),
            ("body=garbage", 200, '{"id": "17f2', 1),
            ("body=none", 200, "", 1),
            ("body=no_id", 200, '{"ok": true}', 1),
        ],
    )
    async def test_answers(self, clock: Clock, words: str, status: int, text: str, accepted: int) -> None:
        async with in_process(simulator(clock)) as client:
            answer = await client.post("/v1/image_to_video", json=body(), headers={"x-simulate": words})
            assert answer.status_code == status
            assert text in answer.text
            totals = (await books(client))["totals"]
            assert (totals["creates"], totals["accepted"], totals["charged"]) == (1, accepted, 25 * accepted)

    async def test_a_fault_may_carry_retry_after_and_be_slow(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            begun = clock.now
            answer = await client.post(
                "/v1/image_to_video", json=body(), headers={"x-simulate": "slow=5, status=503, retry_after=7"}
            )
            assert (answer.headers["retry-after"], clock.now - begun) == ("7", 5)

    async def test_faults_of_delete_and_retrieve(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            task_id = await make(client)
            url = f"/v1/tasks/{task_id}"
            assert (await client.get(url, headers={"x-simulate": "vanish"})).status_code == 404
            assert (await client.get(url, headers={"x-simulate": "body=html"})).text.startswith("<html>")
            strange = await client.delete(url, headers={"x-simulate": "body=garbage"})
            assert (strange.status_code, strange.text) == (200, '{"id": "17f2')
            assert (await client.get(url)).status_code == 404

    async def test_without_a_socket_a_drop_is_an_exception(self, clock: Clock) -> None:
        async with in_process(simulator(clock)) as client:
            for words in ("drop_before", "drop_after", "half"):
                with pytest.raises(ConnectionResetError):
                    await client.post("/v1/image_to_video", json=body(), headers={"x-simulate": words})


class TestConnection:
    @pytest.mark.parametrize(
        ("words", "error", "accepted"),
        [
            ("drop_before", httpx.RemoteProtocolError, 0),
            ("drop_after", httpx.RemoteProtocolError, 1),
            ("half", httpx.RemoteProtocolError, 1),
            ("drop_before, reset", httpx.ReadError, 0),
            ("drop_after, reset", httpx.ReadError, 1),
        ],
    )
    async def test_drops(
        self,
        clock: Clock,
        caplog: pytest.LogCaptureFixture,
        words: str,
        error: type[Exception],
        accepted: int,
    ) -> None:
        async with (
            on_socket(simulator(clock)) as url,
            httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as client,
        ):
            with pytest.raises(error):
                await client.post("/v1/image_to_video", json=body(), headers={"x-simulate": words})
            assert (await books(client))["totals"]["accepted"] == accepted
            assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    async def test_half_of_an_answer_without_a_body_is_none(self, clock: Clock) -> None:
        async with (
            on_socket(simulator(clock)) as url,
            httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as client,
        ):
            task_id = await make(client)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.delete(f"/v1/tasks/{task_id}", headers={"x-simulate": "half"})
            assert (await client.get(f"/v1/tasks/{task_id}")).status_code == 404

    async def test_a_caller_that_gave_up_has_paid_all_the_same(self) -> None:
        """The task is made although nobody waits for the answer any more."""
        gone = asyncio.Event()

        async def sleep(seconds: float) -> None:
            if seconds:
                await gone.wait()

        app = create_simulator(random=Random(1), sleep=sleep)
        async with (
            on_socket(app) as url,
            httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as client,
        ):
            with pytest.raises(httpx.ReadTimeout):
                await client.post(
                    "/v1/image_to_video", json=body(), headers={"x-simulate": "slow=9"}, timeout=0.1
                )  # fmt: skip
            gone.set()
            await until(lambda: app.state.runway.ledger.totals()["accepted"] == 1)


class Receiver:
    """What is called back: keeps the requests, answers with the statuses given, then 204."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[httpx.Request] = []
        self._statuses = list(statuses)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self._statuses.pop(0) if self._statuses else 204
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status)

    @property
    def client(self) -> Callable[[], httpx.AsyncClient]:
        """A factory of clients that reach this receiver alone."""
        return lambda: httpx.AsyncClient(transport=httpx.MockTransport(self))


def with_relay(clock: Clock, receiver: Receiver) -> Any:
    options = SimulatorOptions(relay_url="http://taxiway.test/callbacks/runway", relay_secret=SECRET)
    return create_simulator(options, clock=clock, random=Random(7), relay_client=receiver.client)


class TestRelay:
    async def test_a_task_that_ends_is_called_back_once_and_signed(self, clock: Clock) -> None:
        receiver = Receiver()
        app = with_relay(clock, receiver)
        async with in_process(app) as client:
            task_id = await make(client)
            assert await app.state.relay.relay_once() == 0
            clock.now += 30
            assert await app.state.relay.relay_once() == 1
            assert await app.state.relay.relay_once() == 0
        (request,) = receiver.requests
        event = json.loads(request.content)
        assert (event["type"], event["data"]) == ("task.updated", {"task_id": task_id})
        assert request.headers["webhook-timestamp"] == str(int(clock.now))

    async def test_refused_callbacks_are_repeated_with_the_same_id_and_then_given_up(self, clock: Clock) -> None:
        receiver = Receiver(500, 0, 302, 404, 503)
        app = with_relay(clock, receiver)
        async with in_process(app) as client:
            await make(client, "fail=INTERNAL")
            for _ in range(8):
                clock.now += 60
                await app.state.relay.relay_once()
        assert len(receiver.requests) == 5
        assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1

    def test_signatures_are_those_of_standard_webhooks(self) -> None:
        message, timestamp, content = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
        signature = sign(SECRET, message, timestamp, content)["webhook-signature"]
        assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    def test_the_reference_library_accepts_them(self) -> None:
        headers = sign(SECRET, "msg_1", int(time.time()), b'{"a": 1}')
        assert Webhook(SECRET).verify(b'{"a": 1}', headers) == {"a": 1}
        assert sign("plain text!", "msg_1", 1, b"")["webhook-id"] == "msg_1"

    async def test_the_lifespan_runs_it(self, clock: Clock) -> None:
        receiver = Receiver()
        async with (
            on_socket(with_relay(clock, receiver)) as url,
            httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as client,
        ):
            await make(client)
            clock.now += 30
            await until(lambda: bool(receiver.requests))

    async def test_its_own_client_leaves_proxies_out(self) -> None:
        async with default_client() as client:
            assert not client.trust_env


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Where a simulator keeps its state; not there yet."""
    return tmp_path / "data" / "simulator.json"


def remembering(clock: Clock, memory: Path, *, seed: int = 7, **options: Any) -> Simulator:
    """A simulator that goes on from the file. One that is left without a word was killed."""
    chance = Random(seed)
    return create_simulator(SimulatorOptions(**options), clock=clock, random=chance, sleep=clock.sleep, memory=memory)


FATES = ("", "fail=INTERNAL", "fail=SAFETY.INPUT.TEXT", "empty", "vanish", "throttled", "cancelled", "slow=1")
STATES = {"PENDING", "THROTTLED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", None}


async def many_lives(client: httpx.AsyncClient, clock: Clock) -> list[str]:
    """Tasks of every fate, more than run at once; of another model two are deleted, one while it runs."""
    others = [await make(client, model="gen4.5") for _ in range(4)]
    clock.now += 5
    ids = [await make(client, fate) for fate in FATES]
    for task_id in (others[0], others[3]):
        assert (await client.delete(f"/v1/tasks/{task_id}")).status_code == 204
    return others + ids


async def everything(client: httpx.AsyncClient, ids: list[str]) -> list[Any]:
    """All that a client can see."""
    tasks = [(await client.get(f"/v1/tasks/{one}")).json() for one in ids]
    return [tasks, (await client.get("/v1/organization")).json(), await books(client)]


class TestMemory:
    @pytest.mark.parametrize("killed", [False, True])
    async def test_every_life_goes_on_as_if_there_had_been_no_restart(self, memory: Path, killed: bool) -> None:
        """Next to a twin that never stops, at moments in every state of every task."""
        twins_clock, clock = Clock(), Clock()
        app, states = remembering(clock, memory, concurrency=2), set()
        async with in_process(simulator(twins_clock, concurrency=2)) as twin:
            ids = await many_lives(twin, twins_clock)
            async with in_process(app) as client:
                assert await many_lives(client, clock) == ids
            for seconds in (0, 1, 2, 3, 8, 5, 15, 20, 60, 86_400):
                twins_clock.now += seconds
                clock.now += seconds
                if not killed:
                    async with app.router.lifespan_context(app):
                        pass
                app = remembering(clock, memory, concurrency=2)
                async with in_process(app) as client:
                    seen = await everything(client, ids)
                assert seen == await everything(twin, ids)
                states |= {task.get("status") for task in seen[0]}
        assert states == STATES

    async def test_an_orderly_end_remembers_even_what_was_only_looked_at(self, clock: Clock, memory: Path) -> None:
        app = remembering(clock, memory)
        async with in_process(app) as client, app.router.lifespan_context(app):
            task_id = await make(client, "backwards")
            clock.now += 30
            assert (await look(client, task_id))["status"] == "SUCCEEDED"
        async with in_process(remembering(clock, memory)) as client:
            assert (await look(client, task_id))["status"] == "RUNNING"

    async def test_a_url_signed_before_downloads_until_it_expires(self, clock: Clock, memory: Path) -> None:
        async with in_process(remembering(clock, memory, url_ttl=60)) as client:
            task_id = await make(client)
            clock.now += 30
            url = (await look(client, task_id))["output"][0]
            content = (await client.get(url)).content
        async with in_process(remembering(clock, memory, seed=8, url_ttl=60)) as client:
            answer = await client.get(url)
            assert (answer.status_code, answer.content) == (200, content)
            clock.now += 60
            assert (await client.get(url)).status_code == 403
            assert (await client.get((await look(client, task_id))["output"][0])).status_code == 200

    async def test_faults_that_wait_go_on_waiting(self, clock: Clock, memory: Path) -> None:
        plan = ["status=500", {"simulate": "status=502", "times": 2}, {"simulate": "status=503", "on": "retrieve"}]
        statuses = []
        async with in_process(remembering(clock, memory)) as client:
            await client.post("/_simulator/faults", json=[*plan, {"simulate": "body=html", "on": "delete"}])
        for _ in range(4):
            async with in_process(remembering(clock, memory, seed=8)) as client:
                made = await client.post("/v1/image_to_video", json=body())
                statuses.append((made.status_code, (await client.get("/v1/tasks/1")).status_code))
        assert statuses == [(500, 503), (502, 404), (502, 404), (200, 404)]

    async def test_settings_stay_except_the_speed_which_is_the_commands(self, clock: Clock, memory: Path) -> None:
        async with in_process(remembering(clock, memory)) as client:
            task_id = await make(client)
            await client.post("/_simulator/settings", json={"credits": 60, "tier": 5, "speed": 0})
            await make(client)
        async with in_process(remembering(clock, memory, speed=10, seed=8)) as client:
            account = (await client.get("/v1/organization")).json()
            assert (account["creditBalance"], account["tier"]["maxMonthlyCreditSpend"]) == (35, 10_000_000)
            clock.now += 2.2
            assert (await look(client, task_id))["status"] == "SUCCEEDED"
            await client.post("/_simulator/reset")
        async with in_process(remembering(clock, memory)) as client:
            assert (await books(client))["entries"] == []
            assert (await client.get("/v1/organization")).json()["creditBalance"] == 60

    async def test_what_happened_is_in_the_file_before_a_caller_waits(self, clock: Clock, memory: Path) -> None:
        """Seen from inside the wait: a process that is killed there has forgotten nothing."""
        seen: list[tuple[int, int]] = []

        async def sleep(seconds: float) -> None:
            if seconds:
                totals = remembering(clock, memory).state.runway.ledger.totals()
                seen.append((totals["creates"], totals["accepted"]))

        app = create_simulator(clock=clock, random=Random(7), sleep=sleep, memory=memory)
        async with in_process(app) as client:
            await make(client, "slow=5")
            await make(client, "stall=5")
        assert seen == [(1, 0), (2, 2)]

    async def test_creates_without_an_answer_are_in_the_books(self, clock: Clock, memory: Path) -> None:
        async with in_process(remembering(clock, memory)) as client:
            for words in ("drop_before", "drop_after"):
                with pytest.raises(ConnectionResetError):
                    await client.post("/v1/image_to_video", json=body(), headers={"x-simulate": words})
        async with in_process(remembering(clock, memory)) as client:
            entries = (await books(client))["entries"]
            assert [(entry["status"], bool(entry["task_id"])) for entry in entries] == [(None, False), (None, True)]

    async def test_a_task_that_ended_in_the_meantime_is_called_back(self, clock: Clock, memory: Path) -> None:
        receiver = Receiver()
        async with in_process(remembering(clock, memory)) as client:
            task_id = await make(client)
        clock.now += 30
        options = SimulatorOptions(relay_url="http://taxiway.test/callbacks/runway", relay_secret=SECRET)
        app = create_simulator(options, clock=clock, relay_client=receiver.client, memory=memory)
        assert await app.state.relay.relay_once() == 1
        assert json.loads(receiver.requests[0].content)["data"] == {"task_id": task_id}


def names(folder: Path) -> list[str]:
    """What is in a folder, if it is there."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def modes(*paths: Path) -> list[int]:
    """Who may do what with them."""
    return [path.stat().st_mode & 0o777 for path in paths]


def text(path: Path) -> str:
    """All of a file."""
    return path.read_text(encoding="utf-8")


def spoil(path: Path, before: str, after: str) -> str:
    """Replace something in a file; all of it afterwards."""
    path.write_text(text(path).replace(before, after), encoding="utf-8")
    return text(path)


class TestMemoryFile:
    async def test_it_is_its_owners_alone(self, clock: Clock, memory: Path) -> None:
        async with in_process(remembering(clock, memory)) as client:
            assert names(memory.parent) == []
            await make(client)
        assert names(memory.parent) == ["simulator.json"]
        assert modes(memory.parent, memory) == [0o700, 0o600]

    async def test_looking_writes_nothing(self, clock: Clock, memory: Path) -> None:
        async with in_process(remembering(clock, memory)) as client:
            task_id = await make(client)
            shutil.rmtree(memory.parent)
            await look(client, task_id)
            await client.get("/v1/organization")
            assert names(memory.parent) == []
            await client.delete(f"/v1/tasks/{task_id}")
            assert names(memory.parent) == ["simulator.json"]

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ('"version":1', '"version":0'),
            ("{", ""),
            ('"entries":["', '"entries":["0'),
            ('"changes":{', '"changes":{"colour":1'),
            ('"changes":{', '"changes":{"tier":9'),
            ('"signing_key":"', '"signing_key":"x'),
            ('"gen4_turbo"', '"gen1"'),
        ],
    )
    async def test_one_that_cannot_be_read_is_put_aside(
        self, clock: Clock, memory: Path, caplog: pytest.LogCaptureFixture, before: str, after: str
    ) -> None:
        async with in_process(remembering(clock, memory)) as client:
            await make(client)
        spoiled = spoil(memory, before, after)
        async with in_process(remembering(clock, memory)) as client:
            assert (await books(client))["entries"] == []
            assert (await client.get("/v1/organization")).json()["creditBalance"] == 10_000
            await make(client)
        (warning,) = caplog.records
        assert "simulator.json.unreadable" in warning.getMessage()
        assert text(memory.with_name("simulator.json.unreadable")) == spoiled
        assert remembering(clock, memory).state.runway.ledger.totals()["accepted"] == 1

    async def test_one_that_cannot_be_written_is_said_once(
        self, clock: Clock, memory: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        memory.with_name("simulator.json.part").mkdir(parents=True)
        async with in_process(remembering(clock, memory)) as client:
            for _ in range(2):
                await make(client)
        (warning,) = caplog.records
        assert "cannot write" in warning.getMessage()

    async def test_those_who_wait_together_share_a_write(self, clock: Clock, memory: Path) -> None:
        runway = simulator(clock).state.runway
        written: list[State] = []

        def save() -> State:
            written.append(runway.save())
            return written[-1]

        kept = Memory(memory, save, runway.load)
        await asyncio.gather(*(kept.keep() for _ in range(9)))
        shared = len(written)
        assert shared <= 2
        await kept.keep()
        assert len(written) == shared + 1

    async def test_without_one_nothing_is_written(
        self, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        app = simulator(clock)
        async with in_process(app) as client, app.router.lifespan_context(app):
            await make(client)
        assert names(tmp_path) == []
