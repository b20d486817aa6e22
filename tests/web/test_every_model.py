"""Every endpoint and model of the catalogue, from POST /videos over the simulator to its files."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import pytest

from service.errors import InvalidRequest
from service.runway import catalogue
from service.runway.catalogue import Model
from tests.drift import entries
from tests.generated import valid
from tests.world import world

pytestmark = pytest.mark.anyio

BOUND = 100_000  # credits: what a video may cost whose price is not known
TRIES = 2_000  # bodies that are made until one keeps the rules between its fields


def request_of(operation: str, name: str, model: Model) -> dict[str, Any]:
    """A video of this model, as POST /videos takes it. Files that it refers to are at https addresses."""
    where = f"{operation}/w1" if operation == "workflows" else operation
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
            return {"operation": where, "input": body, "max_credits": BOUND}
    raise AssertionError(f"no valid body for {operation} {name} in {TRIES}")


async def test_every_model_of_every_endpoint_makes_its_files(database_url: str) -> None:
    async with world(database_url, options={"tier": 5, "credits": 10_000_000}) as w:
        made = {}
        for operation, name, model in entries():
            made[await w.enqueue(**request_of(operation, name, model))] = f"{operation} {name}"
        await w.finish(rounds=60)
        for video_id, place in made.items():
            video = (await w.api.get(f"/videos/{video_id}")).json()
            assert (video["status"], place) == ("completed", place), video
            assert video["outputs"], place
