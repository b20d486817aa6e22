"""What Runway answers to a create that it accepted. Source: types/*_create_response.py of Runway's SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.simulator.outputs import USUAL_RATIO
from service.simulator.tasks import Task

ID_ALONE = frozenset({"avatar_videos", "workflows"})


def created(operation: str, body: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The id, and in most operations the most that the task may cost; a router says what it chose."""
    answer: dict[str, Any] = {"id": task.id}
    cost = {"credits": task.entry.charged}
    if operation in ID_ALONE:
        return answer
    if operation.startswith("generate/"):
        return answer | {"routing": _routing(operation, body, task.model, cost)}
    return answer | {"estimatedCost": cost}


def _routing(operation: str, body: Mapping[str, Any], model: str, cost: dict[str, int]) -> dict[str, Any]:
    asked = body["input"]
    if operation == "generate/audio":
        resolved = {"type": asked["type"], "voice": asked.get("voice", {}).get("type", "default")}
    elif operation == "generate/image":
        aspect = {"aspectRatio": asked.get("aspectRatio", "16:9")}
        resolved = aspect | {"ratio": USUAL_RATIO, "resolution": asked.get("resolution", "1k")}
    else:
        shape = {"ratio": USUAL_RATIO, "resolution": asked.get("resolution", "720p")}
        resolved = {"duration": asked.get("duration", 5)} | shape
    return {
        "configId": body["configId"],
        "model": model,
        "provider": "runway",
        "estimatedCost": cost,
        "resolvedInput": resolved,
        "resolvedSettings": {"optimizeFor": "quality", "priceCeiling": None},
    }
