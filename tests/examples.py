"""Every operation of the OpenAPI document, done to a real Taxiway with the document's own examples."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID, uuid4

import httpx

from service import webhooks
from service.web import openapi
from tests.world import CALLBACK_SECRET, CRON_SECRET, World

ADMIN = "admin-token-for-tests-01"
LIFE = ("health/live", "health/ready")
Answers = dict[str, httpx.Response]


def bodies() -> dict[str, Any]:
    """The example of each request's body, by operation such as `POST /videos`."""
    return {
        f"{verb.upper()} {path}": operation["requestBody"]["content"]["application/json"]["example"]
        for path, item in openapi.build()["paths"].items()
        for verb, operation in item.items()
        if verb != "parameters" and "requestBody" in operation
    }


class Caller:
    """Sends operations with the examples as their bodies, and keeps the answers."""

    def __init__(self, w: World, examples: dict[str, Any]) -> None:
        self.w = w
        self.examples = examples
        self.answers: Answers = {}

    async def __call__(self, operation: str, body: dict[str, Any] | None = None, **parts: object) -> Any:
        verb, path = operation.split()
        token = CRON_SECRET if path.startswith(("/process", "/poll")) else ADMIN
        content = json.dumps(body or self.examples[operation]).encode() if operation in self.examples else None
        headers = {"authorization": f"Bearer {token}"}
        if path.startswith("/callbacks"):
            headers = webhooks.headers(CALLBACK_SECRET, f"msg_{uuid4().hex}", int(time.time()), content or b"")
        answer = await self.w.anyone.request(verb, path.format(**parts), content=content, headers=headers)
        assert answer.status_code < 400, (operation, answer.text)
        self.answers[operation] = answer
        return answer.json() if answer.headers.get("content-type") == "application/json" else None


async def answers(w: World, examples: dict[str, Any]) -> Answers:
    """The answer to each operation, from videos in every state that one of them needs."""
    call = Caller(w, examples)
    await call("POST /quotes")
    video = (await call("POST /videos"))["id"]
    await call("POST /process-queued")
    await call("GET /process-queued")
    await w.later(minutes=1)
    await call("GET /poll-processing")
    task = str((await w.ledger(UUID(video)))[0]["task_id"])
    await call("POST /callbacks/runway", {"task_id": task})
    await w.finish()
    for path in ("", "/file", "/submissions", "/events"):
        await call(f"GET /videos/{{id}}{path}", id=video)
    await call("POST /videos/{id}/cancel", id=await w.enqueue())
    w.faults("drop_after", "drop_after")
    unknown, attached = await w.enqueue(), await w.enqueue()
    await w.tick()
    await call("POST /videos/{id}/attach", {"task_id": w.creates[-1].task_id}, id=attached)
    await call("POST /videos/{id}/retry", id=unknown)
    for operation in ("POST /bulk/retry", "POST /bulk/cancel", "POST /poll-processing", "GET /videos", "GET /stats"):
        await call(operation)
    for operation in ("POST /models/{model}/pause", "POST /models/{model}/resume"):
        await call(operation, model="gen4_turbo")
    for path in (
        "models",
        "ticks",
        "account",
        "metrics",
        "health",
        "health/live",
        "health/ready",
        "openapi.json",
        "docs",
    ):
        await call(f"GET /{path}")
    await call("GET /docs/{name}", name="quickstart")
    await call("DELETE /videos/{id}", id=video)  # the task of a finished video is still to be deleted
    return call.answers
