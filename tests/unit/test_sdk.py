"""Runway's own client, unmodified, through a whole life against the simulator, over a real socket."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import av
import httpx
import pytest
from runwayml import (
    APIStatusError,
    AsyncRunwayML,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
    TaskFailedError,
)

from tests.simulator_server import IMAGE, Clock, on_socket, simulator

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The SDK sleeps some 6 s between looks: these are seconds of the simulator's clock here."""
    clock = Clock()
    monkeypatch.setattr(anyio, "sleep", clock.sleep)
    return clock


@asynccontextmanager
async def sdk(clock: Clock, *, key: str = "key_test", retries: int = 0, **options: Any) -> AsyncIterator[AsyncRunwayML]:
    """The SDK's client against a simulator of its own."""
    async with (
        on_socket(simulator(clock, **options)) as url,
        AsyncRunwayML(api_key=key, base_url=url, max_retries=retries) as client,
    ):
        yield client


async def ledger(client: AsyncRunwayML) -> dict[str, Any]:
    """The totals of the simulator's books."""
    async with httpx.AsyncClient() as http:
        answer = await http.get(client.base_url.join("/_simulator/ledger"))
    totals: dict[str, Any] = answer.json()["totals"]
    return totals


async def test_a_whole_life_ends_with_a_playable_file(clock: Clock) -> None:
    async with sdk(clock) as client:
        made = await client.image_to_video.create(
            model="gen4_turbo", prompt_image=IMAGE, prompt_text="a boat", ratio="720:1280", duration=5
        )
        assert made.model_dump()["estimated_cost"] == {"credits": 25}
        task = await made.wait_for_task_output()
        assert task.status == "SUCCEEDED"
        assert task.cost.credits == 25
        async with httpx.AsyncClient() as http:
            file = await http.get(task.output[0])
        with av.open(io.BytesIO(file.content), "r") as container:
            video = container.streams.video[0]
            assert (video.codec_context.name, video.height > video.width) == ("h264", True)
            assert len(list(container.decode(video))) > 10


async def test_text_to_video_with_gen45(clock: Clock) -> None:
    async with sdk(clock) as client:
        made = await client.text_to_video.create(
            model="gen4.5", prompt_text="a boat", ratio="1280:720", duration=2, seed=3
        )
        assert (await made.wait_for_task_output()).status == "SUCCEEDED"


async def test_every_status_on_the_way_is_one_that_the_sdk_knows(clock: Clock) -> None:
    async with sdk(clock, concurrency=1) as client:
        made = [
            await client.image_to_video.create(model="gen4_turbo", prompt_image=IMAGE, ratio="1280:720")
            for _ in range(2)
        ]
        seen: list[str] = []
        while seen[-1:] != ["SUCCEEDED"]:
            task = await client.tasks.retrieve(made[1].id)
            seen += [task.status] if seen[-1:] != [task.status] else []
            clock.now += 1
            assert clock.now < 1_790_000_100
        assert seen == ["PENDING", "THROTTLED", "RUNNING", "SUCCEEDED"]


async def test_a_validation_error_carries_all_issues(clock: Clock) -> None:
    async with sdk(clock) as client:
        with pytest.raises(BadRequestError) as caught:
            await client.image_to_video.create(
                model="gen4_turbo",
                prompt_image="http://example.com/boat.jpg",
                ratio="1280:720",
                extra_body={"ratio": "16:9", "callback_url": "https://example.com"},
            )
        assert isinstance(caught.value.body, dict)
        issues = caught.value.body["issues"]
        assert [(issue["code"], issue["path"]) for issue in issues] == [
            ("custom", ["promptImage"]),
            ("invalid_value", ["ratio"]),
            ("unrecognized_keys", []),
        ]
        assert (await ledger(client))["accepted"] == 0


async def test_a_failed_task_raises_with_its_code(clock: Clock) -> None:
    async with sdk(clock) as client:
        made = await client.image_to_video.create(
            model="gen4_turbo",
            prompt_image=IMAGE,
            ratio="1280:720",
            duration=5,
            extra_headers={"X-Simulate": "fail=SAFETY.INPUT.TEXT"},
        )
        with pytest.raises(TaskFailedError) as caught:
            await made.wait_for_task_output()
        task = caught.value.task_details
        assert task.status == "FAILED"
        assert (task.failure_code, task.cost.credits) == ("SAFETY.INPUT.TEXT", 25)


async def test_a_cancelled_task_is_gone(clock: Clock) -> None:
    async with sdk(clock) as client:
        made = await client.image_to_video.create(model="gen4_turbo", prompt_image=IMAGE, ratio="1280:720")
        await client.tasks.delete(made.id)
        with pytest.raises(NotFoundError):
            await client.tasks.retrieve(made.id)
        with pytest.raises(NotFoundError):
            await client.tasks.delete(made.id)
        assert (await ledger(client))["cost"] == 0


async def test_the_daily_limit(clock: Clock) -> None:
    async with sdk(clock, daily_limit=1) as client:
        await client.image_to_video.create(model="gen4_turbo", prompt_image=IMAGE, ratio="1280:720")
        with pytest.raises(RateLimitError, match="daily task limit"):
            await client.image_to_video.create(model="gen4_turbo", prompt_image=IMAGE, ratio="1280:720")
        organization = await client.organization.retrieve()
        assert organization.usage.models["gen4_turbo"].daily_generations == 1
        assert organization.tier.models["gen4_turbo"].max_daily_generations == 1
        assert organization.credit_balance == 10_000 - 50


async def test_a_wrong_key(clock: Clock) -> None:
    async with sdk(clock, key="sk-other") as client:
        with pytest.raises(AuthenticationError):
            await client.organization.retrieve()


async def test_the_sdk_at_its_defaults_pays_three_times_for_one_create(clock: Clock) -> None:
    """Why the service sends its creates without the SDK's retries."""
    async with sdk(clock, retries=2) as client:
        with pytest.raises(InternalServerError):
            await client.image_to_video.create(
                model="gen4_turbo",
                prompt_image=IMAGE,
                ratio="1280:720",
                duration=5,
                extra_headers={"X-Simulate": "accepted_status=504"},
            )
        assert await ledger(client) == {
            "creates": 3, "accepted": 3, "charged": 75, "refunded": 0, "cost": 75, "deleted": 0,
        }  # fmt: skip


async def test_an_upload_is_an_input_for_a_day(clock: Clock) -> None:
    async with sdk(clock) as client:
        upload = await client.uploads.create_ephemeral(file=("boat.png", b"boat" * 200))
        assert upload.uri.startswith("runway://")
        made = await client.text_to_image.create(
            model="muse_image", prompt_text="a boat", ratio="1600:1600", output_count=2,
            reference_images=[{"uri": upload.uri}],
        )  # fmt: skip
        task = await made.wait_for_task_output()
        assert task.status == "SUCCEEDED"
        assert len(task.output) == 2
        clock.now += 86_400
        with pytest.raises(BadRequestError, match="Failed to fetch asset"):
            await client.image_to_video.create(model="gen4_turbo", prompt_image=upload.uri, ratio="1280:720")


async def test_a_small_upload_is_refused(clock: Clock) -> None:
    async with sdk(clock) as client:
        with pytest.raises(APIStatusError, match="Upload failed with status 403"):
            await client.uploads.create_ephemeral(file=("boat.png", b"boat"))


async def test_usage_by_day_and_model(clock: Clock) -> None:
    async with sdk(clock) as client:
        await client.text_to_image.create(model="muse_image", prompt_text="a boat", ratio="1600:1600")
        clock.now += 86_400
        usage = await client.organization.retrieve_usage()
        assert usage.models == ["muse_image"]
        assert [(day.date.isoformat(), day.used_credits[0].amount) for day in usage.results] == [("2026-09-21", 1)]


async def test_a_workflow_and_a_router(clock: Clock) -> None:
    async with sdk(clock) as client:
        run = await client.workflows.run("17f20503-6c24-4c16-946b-35dbbce2af2f")
        routed = await client.generate.video.create(config_id="fast", input={"prompt_text": "a boat"})
        assert routed.model_dump()["routing"]["estimated_cost"] == {"credits": 60}
        assert (await routed.wait_for_task_output()).status == "SUCCEEDED"
        invocation = await client.workflow_invocations.retrieve(run.id)
        assert invocation.status == "SUCCEEDED"
        ((url,),) = invocation.output.values()
        assert ".mp4?" in url
