"""The simulator with faults that follow a video, however the requests are mixed: each has its own script."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

from starlette.types import Message, Receive, Scope, Send

from service.simulator.app import FAULT_HEADER, Simulator
from service.simulator.faults import On

# (prompt, kind of request, how many of them came before) -> words of service/simulator/faults.py, or nothing.
Script = Callable[[str, On, int], str]

METHODS: dict[str, On] = {"POST": "create", "GET": "retrieve", "DELETE": "delete"}


class Scripted:
    """The simulator as an ASGI application; `injected` counts the faults by their words."""

    def __init__(self, simulator: Simulator, script: Script) -> None:
        self.simulator, self.script = simulator, script
        self.injected: Counter[str] = Counter()
        self._seen: Counter[tuple[str, On]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the request the header that makes it go wrong, and pass it on."""
        on = METHODS.get(scope.get("method", ""))
        if on is None or not scope["path"].startswith("/v1/"):
            return await self.simulator(scope, receive, send)
        prompt = ""
        if on == "create":
            messages = await _whole(receive)
            prompt = _prompt_of(messages)
            receive = _replay(messages, receive)
        else:
            prompt = self._prompt(scope["path"].rpartition("/")[2])
        words = self.script(prompt, on, self._seen[prompt, on])
        self._seen[prompt, on] += 1
        if words:
            self.injected[f"{on} {words}"] += 1
            scope["headers"] = [*scope["headers"], (FAULT_HEADER.encode(), words.encode())]
        return await self.simulator(scope, receive, send)

    def _prompt(self, task_id: str) -> str:
        task = self.simulator.state.runway.find(task_id)
        return (task.entry.prompt or "") if task else ""


async def _whole(receive: Receive) -> list[Message]:
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _replay(messages: list[Message], receive: Receive) -> Receive:
    rest = iter(messages)

    async def again() -> Message:
        return next(rest, None) or await receive()

    return again


def _prompt_of(messages: list[Message]) -> str:
    try:
        return str(json.loads(b"".join(message.get("body", b"") for message in messages))["promptText"])
    except (ValueError, KeyError, TypeError):
        return ""
