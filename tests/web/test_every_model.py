"""Every endpoint and model of the catalogue, over the simulator to its files: by the API, by /v1 and by the SDK."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest

from service.errors import InvalidRequest
from service.runway import catalogue
from service.runway.catalogue import Model
from tests.drift import entries
from tests.generated import valid
from tests.web.door_wire import sdk
from tests.world import World, world

pytestmark = pytest.mark.anyio

BOUND = 100_000  # credits: what a video may cost whose price is not known
BOUNDED = {"taxiway-max-credits": str(BOUND)}
TRIES = 2_000  # bodies that are made until one keeps the rules between its fields
ACCOUNT = {"tier": 5, "credits": 10_000_000}
WORKFLOW = "w1"


def body_of(operation: str, name: str, model: Model) -> tuple[str, dict[str, Any]]:
    """Runway's path after /v1/ and a body for this model. Files that it refers to are at https addresses."""
    where = f"{operation}/{WORKFLOW}" if operation == "workflows" else operation
    named = {"model": name} if model.name == name else {}
    random = Random(f"{operation} {name}")
    for _ in range(TRIES):
        body = named | valid(model.schema, random)
        try:
            catalogue.build_request(
                where,
                body,
                default_model=None,
                default_ratio="1280:720",
                default_duration=5,
                max_credits=Decimal(BOUND),
            )
        except InvalidRequest:
            continue
        if "runway://" not in str(body):
            return where, body
    raise AssertionError(f"no valid body for {operation} {name} in {TRIES}")


def bodies() -> list[tuple[Model, str, dict[str, Any]]]:
    """One for each entry of the catalogue."""
    return [(model, *body_of(operation, name, model)) for operation, name, model in entries()]


async def stored(w: World, video_id: str, model: Model, where: str, body: dict[str, Any]) -> int:
    """Check that the video is what was asked for, field by field; its quote."""
    row = await w.row(UUID(video_id))
    assert (row["operation"], row["model"]) == (where, model.name)
    assert body.items() <= json.loads(row["input"]).items(), model.key
    assert row["quoted_credits"] > 0
    return int(row["quoted_credits"])


async def test_every_model_of_every_endpoint_makes_its_files(database_url: str) -> None:
    async with world(database_url, options=ACCOUNT) as w:
        made = {}
        for model, where, body in bodies():
            video_id = await w.enqueue(operation=where, input=body, max_credits=BOUND)
            await stored(w, str(video_id), model, where, body)
            made[video_id] = model.key
        await w.finish(rounds=60)
        for video_id, place in made.items():
            video = (await w.api.get(f"/videos/{video_id}")).json()
            assert (video["status"], place) == ("completed", place), video
            assert video["outputs"], place
        assert len(made) == len(catalogue.pairs())


async def test_every_model_of_every_endpoint_by_runways_own_paths(database_url: str) -> None:
    async with world(database_url, options=ACCOUNT) as w:
        made = {}
        for model, where, body in bodies():
            answer = await w.api.post(f"/v1/{where}", json=body, headers=BOUNDED)
            assert answer.status_code == 200, answer.text
            task = answer.json()
            assert task["estimatedCost"]["credits"] == await stored(w, task["id"], model, where, body)
            made[task["id"]] = model.key
        await w.finish(rounds=60)
        for task_id, place in made.items():
            task = (await w.api.get(f"/v1/tasks/{task_id}")).json()
            assert (task["status"], place) == ("SUCCEEDED", place), task
            assert task["output"], place
        assert len(made) == len(catalogue.pairs())


async def create(client: Any, where: str, body: dict[str, Any]) -> str:
    """Make a task with the method that the SDK has for it; its id."""
    arguments = {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name): value for name, value in body.items()}
    first, _, last = where.partition("/")
    resource: Any = getattr(client, first)
    match first:
        case "workflows":
            task = await resource.run(last, **arguments, extra_headers=BOUNDED)
        case "recipes":
            task = await getattr(resource, last)(**arguments, extra_headers=BOUNDED)
        case _:
            task = await (getattr(resource, last) if last else resource).create(**arguments, extra_headers=BOUNDED)
    return str(task.id)


async def test_every_model_of_every_endpoint_with_runways_sdk(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(database_url, options=ACCOUNT) as w, sdk(w, monkeypatch, max_retries=0) as (client, _):
        made = {}
        for model, where, body in bodies():
            task_id = await create(client, where, body)
            await stored(w, task_id, model, where, body)
            made[task_id] = model.key
        await w.finish(rounds=60)
        for task_id, place in made.items():
            task = await client.tasks.retrieve(task_id)
            assert (task.status, place) == ("SUCCEEDED", place), task
            assert task.output, place
        assert len(made) == len(catalogue.pairs())
